import type { Quantization } from "../messages/index.js";
import type { ModelConfig } from "./model-config.js";
import { wholeModel } from "./shard.js";
import { headSpec, layerSpec } from "./tensor-names.js";
import { matrixBytes } from "./weight-format.js";

/**
 * Bytes of all matrices of a shard in their run-time form; the embedding stays in the mapped file. No
 * shard has more than the first.
 */
export function estimateWeightBytes(
  model: ModelConfig,
  quantization: Quantization,
  shard = wholeModel,
): number {
  const layer = layerSpec(model, 0, shard);
  const perLayer = [layer.qkv, layer.output, layer.gate, layer.up, layer.down];
  const bytes = matrixBytes[quantization ?? "float32"];
  const layerBytes = perLayer.reduce((sum, { rows, cols }) => sum + bytes(rows, cols), 0);
  const head = headSpec(model, shard);
  return layerBytes * model.numLayers + bytes(head.rows, head.cols);
}
