import type { Quantization } from "../messages/index.js";
import type { Communicator, NativeAddon } from "../native/index.js";
import { loadFusedLayers } from "./fused-layers.js";
import { loadInt8Head, loadInt8Layers } from "./int8-layers.js";
import type { ModelConfig } from "./model-config.js";
import { loadOnnxHead } from "./onnx-head.js";
import type { WeightAccess } from "./read-weights.js";
import { createScratch } from "./scratch.js";
import { type Shard, vocabShare } from "./shard.js";
import { loadShardedLayers } from "./sharded-layers.js";
import { weightFormat } from "./weight-format.js";

/** Attention of one layer, run between two dense segments: reads qkv rows, writes attended rows. */
export type AttentionStep = (layer: number, qkv: Float32Array, attended: Float32Array) => void;

/** The dense part of all decoder layers, cut where attention and sums over the ranks happen. */
export interface DenseLayers {
  /**
   * `hidden` is fp32 [rows, hiddenSize]: embeddings in, last layer's output out (norm not applied).
   */
  forward(hidden: Float32Array, rows: number, attend: AttentionStep): Promise<void>;
  dispose(): Promise<void>;
}

/** The dense part of a decoder. The head runs on the rows that are sampled. */
export interface DenseModel extends DenseLayers {
  /**
   * logits = head(norm(hidden)): fp32 [rows, hiddenSize] to [rows, vocabSize], which rank 0 alone
   * gets.
   */
  head(hidden: Float32Array, rows: number, logits: Float32Array): Promise<void>;
}

/** The output head of one rank: logits of its share of the vocabulary. */
export interface Head {
  /** logits = head(norm(hidden)): fp32 [rows, hiddenSize] to [rows, the share's width]. */
  run(hidden: Float32Array, rows: number, logits: Float32Array): Promise<void>;
  dispose(): Promise<void>;
}

/** What parts of a model are made of, and for whom. */
export interface PartsContext extends WeightAccess {
  /** Of the whole model. */
  model: ModelConfig;
  shard: Shard;
  /** Of ONNX Runtime's sessions. */
  threads: number;
  normEps: number;
}

export interface LayersContext extends PartsContext {
  /** Joins the ranks; null for one alone. */
  comm: Communicator | null;
  /** One of the layers' segments is made. */
  onSegment: () => void;
}

export interface DenseModelOptions extends Omit<LayersContext, "scratch" | "onSegment"> {
  quantization: Quantization;
  native: NativeAddon;
  onProgress: (done: number, total: number) => void;
  /** Frees what loading left behind; the head's buffer may be a quarter of the weights. */
  collectGarbage: () => void;
}

export async function loadDenseModel(options: DenseModelOptions): Promise<DenseModel> {
  const { model, shard, comm, onProgress } = options;
  const total = model.numLayers + 2;
  let done = 0;
  const onSegment = () => onProgress(++done, total);
  const { loadHead, loadLayers } = partsFor(options);
  // A scratch of its own: the head's buffer is many times a layer's and must not stay.
  const head = await loadHead({ ...options, scratch: createScratch() });
  options.collectGarbage();
  onSegment();
  const layers = await loadLayers({ ...options, scratch: createScratch(), onSegment });
  const { begin, end } = vocabShare(model.vocabSize, shard);
  let part = new Float32Array(0);

  return {
    forward: layers.forward,
    async head(hidden, rows, logits) {
      const width = end - begin;
      const isWhole = width === model.vocabSize;
      if (!isWhole && part.length < rows * width) part = new Float32Array(rows * width);
      const own = isWhole ? logits : part.subarray(0, rows * width);
      await head.run(hidden, rows, own);
      if (isWhole) return;
      comm!.gatherColumns(own, rows, model.vocabSize, shard.rank === 0 ? logits : null);
    },
    async dispose() {
      await head.dispose();
      await layers.dispose();
    },
  };
}

interface Parts {
  loadHead(context: PartsContext): Promise<Head>;
  loadLayers(context: LayersContext): Promise<DenseLayers>;
}

/** int8 weights are multiplied by native code, all others in ONNX Runtime; see README.md. */
function partsFor({ quantization, native, shard }: DenseModelOptions): Parts {
  if (quantization === "int8") {
    return {
      loadHead: async (context) => loadInt8Head(context, native),
      loadLayers: (context) => loadInt8Layers(context, native),
    };
  }
  const format = weightFormat(quantization, native);
  const loadLayers = shard.worldSize === 1 ? loadFusedLayers : loadShardedLayers;
  return {
    loadHead: (context) => loadOnnxHead({ ...context, format }),
    loadLayers: (context) => loadLayers({ ...context, format }),
  };
}
