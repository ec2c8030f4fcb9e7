import type { Communicator } from "../native/index.js";
import { createTensor, type Session } from "../onnx/index.js";
import { loadFusedLayers } from "./fused-layers.js";
import type { ModelConfig } from "./model-config.js";
import { createScratch } from "./scratch.js";
import { createSegment, type SegmentContext } from "./segment.js";
import { type Shard, vocabShare } from "./shard.js";
import { loadShardedLayers } from "./sharded-layers.js";
import { finalNormSpec, headSpec } from "./tensor-names.js";

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

/** The dense part of a decoder. The head is a session of its own, run on the rows that are sampled. */
export interface DenseModel extends DenseLayers {
  /**
   * logits = head(norm(hidden)): fp32 [rows, hiddenSize] to [rows, vocabSize], which rank 0 alone
   * gets.
   */
  head(hidden: Float32Array, rows: number, logits: Float32Array): Promise<void>;
}

/** What the layers are made of, and for whom. */
export interface LayersContext extends SegmentContext {
  /** Of the whole model. */
  model: ModelConfig;
  shard: Shard;
  /** Joins the ranks; null for one alone. */
  comm: Communicator | null;
  /** One of the layers' segments is made. */
  onSegment: () => void;
}

export interface DenseModelOptions extends Omit<LayersContext, "scratch" | "onSegment"> {
  onProgress: (done: number, total: number) => void;
  /** Frees what loading left behind; the head's buffer may be a quarter of the weights. */
  collectGarbage: () => void;
}

export async function loadDenseModel(options: DenseModelOptions): Promise<DenseModel> {
  const { model, shard, comm, onProgress } = options;
  const total = model.numLayers + 2;
  let done = 0;
  const onSegment = () => onProgress(++done, total);
  // A scratch of its own: the head's buffer is many times a layer's and must not stay.
  const head = await buildHead({ ...options, scratch: createScratch() });
  options.collectGarbage();
  onSegment();
  const context = { ...options, scratch: createScratch(), onSegment };
  const layers = await (shard.worldSize === 1
    ? loadFusedLayers(context)
    : loadShardedLayers(context));
  const { begin, end } = vocabShare(model.vocabSize, shard);
  let part = new Float32Array(0);

  return {
    forward: layers.forward,
    async head(hidden, rows, logits) {
      const width = end - begin;
      const isWhole = width === model.vocabSize;
      if (!isWhole && part.length < rows * width) part = new Float32Array(rows * width);
      const own = isWhole ? logits : part.subarray(0, rows * width);
      await head.run(
        { hidden: createTensor(hidden, [rows, model.hiddenSize]) },
        { logits: createTensor(own, [rows, width]) },
      );
      if (isWhole) return;
      comm!.gatherColumns(own, rows, model.vocabSize, shard.rank === 0 ? logits : null);
    },
    async dispose() {
      await head.dispose();
      await layers.dispose();
    },
  };
}

async function buildHead(
  options: SegmentContext & { model: ModelConfig; shard: Shard },
): Promise<Session> {
  const { model, shard } = options;
  const s = createSegment("head", options);
  const spec = headSpec(model, shard);
  const normed = s.norm(s.input("hidden", model.hiddenSize), finalNormSpec(model));
  s.output(s.linear(s.activation(normed), spec), "logits", spec.rows);
  return s.finish();
}
