import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import type { WorkerConfig } from "../messages/index.js";
import {
  type DenseModel,
  embeddingSpec,
  estimateWeightBytes,
  layerSpec,
  loadDenseModel,
  loadModelConfig,
  type ModelConfig,
  openCheckpoint,
  openDummyWeights,
  ropeSpec,
  type TensorSpec,
  type WeightSource,
  weightFormat,
} from "../model/index.js";
import type { KvArena, NativeAddon } from "../native/index.js";

/** A model ready to run: weights in sessions, KV arena allocated. */
export interface LoadedModel {
  config: ModelConfig;
  dense: DenseModel;
  arena: KvArena;
  /** Bytes of weights in their run-time form. */
  weightBytes: number;
  /** Per layer, fp32 [headDim] each, or null without q/k norm. */
  headNorms: readonly { q: Float32Array | null; k: Float32Array | null }[];
  /** out[i, :] = embedding of tokenIds[i], fp32 [rows, hiddenSize]. */
  embed(tokenIds: Int32Array, out: Float32Array): void;
  dispose(): Promise<void>;
}

export async function loadModel(
  worker: WorkerConfig,
  native: NativeAddon,
  onProgress: (done: number, total: number) => void,
): Promise<LoadedModel> {
  const config = loadModelConfig(worker.modelPath, worker.hfOverrides);
  native.setThreads(worker.threads);
  const source =
    worker.loadFormat === "dummy"
      ? openDummyWeights(worker.seed, native)
      : openCheckpoint(worker.modelPath, worker.dtype, native);
  const embedding = embeddingSpec(config);
  source.check(embedding);
  const arena = createArena(config, worker, native);
  const dense = await loadDenseModel({
    model: config,
    source,
    format: weightFormat(worker.quantization, native),
    threads: worker.threads,
    normEps: config.rmsNormEps,
    onProgress,
    collectGarbage: exposedGarbageCollector(),
  });
  return {
    config,
    dense,
    arena,
    weightBytes: estimateWeightBytes(config, worker.quantization),
    headNorms: readHeadNorms(config, source),
    embed: (tokenIds, out) => source.gather(embedding, tokenIds, out),
    async dispose() {
      await dense.dispose();
      arena.dispose();
      source.dispose();
    },
  };
}

function createArena(config: ModelConfig, worker: WorkerConfig, native: NativeAddon): KvArena {
  return native.createArena({
    numBlocks: worker.numBlocks,
    numLayers: config.numLayers,
    blockSize: worker.blockSize,
    numQueryHeads: config.numQueryHeads,
    numKvHeads: config.numKvHeads,
    headDim: config.headDim,
    dtype: worker.kvDtype,
    rope: ropeSpec(config),
  });
}

function readHeadNorms(config: ModelConfig, source: WeightSource): LoadedModel["headNorms"] {
  const read = (spec: TensorSpec | null) => {
    if (spec === null) return null;
    source.check(spec);
    const values = new Float32Array(config.headDim);
    source.readRows(spec, 0, config.headDim, values);
    return values;
  };
  return Array.from({ length: config.numLayers }, (_, i) => {
    const layer = layerSpec(config, i);
    return { q: read(layer.qNorm), k: read(layer.kNorm) };
  });
}

/**
 * The collector as a function. Loading frees buffers of hundreds of megabytes that V8 sees as a few
 * small objects, so without a push they pile up beyond the memory that the plan allows for.
 */
function exposedGarbageCollector(): () => void {
  setFlagsFromString("--expose-gc");
  return runInNewContext("gc") as () => void;
}
