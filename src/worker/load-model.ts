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
  type Shard,
  shardConfig,
  type TensorSpec,
  vocabShare,
  type WeightSource,
} from "../model/index.js";
import type { Communicator, KvArena, NativeAddon } from "../native/index.js";
import { representationKind } from "../sparse/index.js";

/** A model, or a rank's part of it, ready to run: weights in sessions, KV arena allocated. */
export interface LoadedModel {
  /** Of the whole model. */
  config: ModelConfig;
  /** The same with the sizes of this rank's part. */
  local: ModelConfig;
  dense: DenseModel;
  /** Whether the head's logits arrive here: at rank 0. */
  hasLogits: boolean;
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
  comm: Communicator | null,
  onProgress: (done: number, total: number) => void,
): Promise<LoadedModel> {
  const config = loadModelConfig(worker.modelPath, worker.hfOverrides);
  native.setThreads(worker.threads);
  const source =
    worker.loadFormat === "dummy"
      ? openDummyWeights(worker.seed, native)
      : openCheckpoint(worker.modelPath, worker.dtype, native);
  const shard = { rank: worker.rank, worldSize: worker.worldSize };
  const local = shardConfig(config, shard);
  const embed = createEmbedding(config, shard, source, comm);
  const arena = createArena(local, worker, native);
  const dense = await loadDenseModel({
    model: config,
    shard,
    comm,
    source,
    quantization: worker.quantization,
    native,
    threads: worker.threads,
    normEps: config.rmsNormEps,
    onProgress,
    collectGarbage: exposedGarbageCollector(),
  });
  return {
    config,
    local,
    hasLogits: shard.rank === 0,
    dense,
    arena,
    weightBytes: estimateWeightBytes(config, worker.quantization, shard),
    headNorms: readHeadNorms(config, source),
    embed,
    async dispose() {
      await dense.dispose();
      arena.dispose();
      source.dispose();
    },
  };
}

/** Of a token one rank has the embedding; the others add zeros. */
function createEmbedding(
  config: ModelConfig,
  shard: Shard,
  source: WeightSource,
  comm: Communicator | null,
): LoadedModel["embed"] {
  const spec = embeddingSpec(config, shard);
  source.check(spec);
  if (shard.worldSize === 1) return (tokenIds, out) => source.gather(spec, tokenIds, out);
  const { begin, end } = vocabShare(config.vocabSize, shard);
  return (tokenIds, out) => {
    const isOwn = (id: number) => id >= begin && id < end;
    const ownIds = tokenIds.map((id) => (isOwn(id) ? id - begin : 0));
    source.gather(spec, ownIds, out);
    for (const [row, id] of tokenIds.entries()) {
      if (!isOwn(id)) out.fill(0, row * config.hiddenSize, (row + 1) * config.hiddenSize);
    }
    comm!.allReduceSum(out);
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
    ...(worker.sparse === null
      ? {}
      : {
          representation: {
            kind: representationKind(worker.sparse),
            tokens: worker.sparse.representationTokens,
          },
        }),
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
