import type { Quantization } from "../messages/index.js";
import type { ModelConfig } from "./model-config.js";
import { headSpec, layerSpec } from "./tensor-names.js";
import { matrixBytes } from "./weight-format.js";

/** Bytes of all matrices in their run-time form; the embedding stays in the mapped file. */
export function estimateWeightBytes(model: ModelConfig, quantization: Quantization): number {
  const layer = layerSpec(model, 0);
  const perLayer = [layer.qkv, layer.output, layer.gate, layer.up, layer.down];
  const bytes = matrixBytes[quantization ?? "float32"];
  const layerBytes = perLayer.reduce((sum, { rows, cols }) => sum + bytes(rows, cols), 0);
  const head = headSpec(model);
  return layerBytes * model.numLayers + bytes(head.rows, head.cols);
}
