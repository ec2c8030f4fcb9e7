import { createTensor, type Session, type Tensor } from "../onnx/index.js";
import type { ModelConfig } from "./model-config.js";
import { createScratch } from "./scratch.js";
import { createSegment, type SegmentContext } from "./segment.js";
import { finalNormSpec, headSpec, type LayerSpec, layerSpec } from "./tensor-names.js";

/** Attention of one layer, run between two dense segments: reads qkv rows, writes attended rows. */
export type AttentionStep = (layer: number, qkv: Float32Array, attended: Float32Array) => void;

/**
 * The dense part of a decoder, cut where attention happens: segment 0 makes layer 0's projections,
 * segment l finishes layer l-1 and starts layer l, the last finishes the last layer; one session
 * each, so that a step of L layers is L + 1 runs. The head is a session of its own, run on the rows
 * that are sampled.
 */
export interface DenseModel {
  /**
   * `hidden` is fp32 [rows, hiddenSize]: embeddings in, last layer's output out (norm not applied).
   */
  forward(hidden: Float32Array, rows: number, attend: AttentionStep): Promise<void>;
  /** logits = head(norm(hidden)): fp32 [rows, hiddenSize] to [rows, vocabSize]. */
  head(hidden: Float32Array, rows: number, logits: Float32Array): Promise<void>;
  dispose(): Promise<void>;
}

export interface DenseModelOptions extends Omit<SegmentContext, "scratch"> {
  model: ModelConfig;
  onProgress: (done: number, total: number) => void;
  /** Frees what loading left behind; the head's buffer may be a quarter of the weights. */
  collectGarbage: () => void;
}

/** Row width of the fused query, key and value projections. */
export function qkvWidth(model: ModelConfig): number {
  return (model.numQueryHeads + 2 * model.numKvHeads) * model.headDim;
}

export async function loadDenseModel(options: DenseModelOptions): Promise<DenseModel> {
  const { model, onProgress } = options;
  const total = model.numLayers + 2;
  const layers = Array.from({ length: model.numLayers }, (_, i) => layerSpec(model, i));
  // A scratch of its own: the head's buffer is many times a layer's and must not stay.
  const head = await buildHead({ ...options, scratch: createScratch() });
  options.collectGarbage();
  onProgress(1, total);
  const context = { ...options, scratch: createScratch() };
  const segments: Session[] = [];
  for (let i = 0; i <= layers.length; i++) {
    segments.push(await buildSegment(context, layers[i - 1] ?? null, layers[i] ?? null));
    onProgress(i + 2, total);
  }
  const buffers = createStepBuffers(model);

  return {
    async forward(hidden, rows, attend) {
      const { qkv, attended, spare, slices } = buffers(hidden, rows);
      for (const [i, segment] of segments.entries()) {
        for (const slice of slices) await runSegment(segment, slice, i > 0, i < model.numLayers);
        if (i < model.numLayers) attend(i, qkv, attended);
      }
      if (model.numLayers % 2 === 1) hidden.set(spare);
    },
    head: (hidden, rows, logits) =>
      head.run(
        { hidden: createTensor(hidden, [rows, model.hiddenSize]) },
        { logits: createTensor(logits, [rows, model.vocabSize]) },
      ),
    async dispose() {
      for (const session of [head, ...segments]) await session.dispose();
    },
  };
}

async function buildHead(options: SegmentContext & { model: ModelConfig }): Promise<Session> {
  const { model } = options;
  const s = createSegment("head", options);
  const normed = s.norm(s.input("hidden", model.hiddenSize), finalNormSpec(model));
  s.output(s.linear(s.activation(normed), headSpec(model)), "logits", model.vocabSize);
  return s.finish();
}

/** Finishes layer `previous` (null for none) and starts layer `next`. */
async function buildSegment(
  options: SegmentContext & { model: ModelConfig },
  previous: LayerSpec | null,
  next: LayerSpec | null,
): Promise<Session> {
  const { model } = options;
  const s = createSegment("segment", options);
  const hidden = s.input("hidden", model.hiddenSize);
  const startNext = (normed: string) => {
    s.output(s.linear(s.activation(normed), next!.qkv), "qkv", qkvWidth(model));
  };
  if (previous === null) {
    startNext(s.norm(hidden, next!.inputNorm));
    return s.finish();
  }
  const attended = s.input("attended", model.numQueryHeads * model.headDim);
  const projected = s.linear(s.activation(attended), previous.output);
  const [residual, normed] = s.addNorm(projected, hidden, previous.postNorm);
  const fed = s.mlp(s.activation(normed), previous);
  if (next === null) {
    s.output(s.add(fed, residual), "hidden_out", model.hiddenSize);
    return s.finish();
  }
  const [sum, nextNormed] = s.addNorm(fed, residual, next.inputNorm);
  s.output(sum, "hidden_out", model.hiddenSize);
  startNext(nextNormed);
  return s.finish();
}

/** Tensors of consecutive rows of a step. */
interface Slice {
  hidden: Tensor;
  hiddenOut: Tensor;
  qkv: Tensor;
  attended: Tensor;
}

/**
 * Rows that a segment takes at once: enough to be compute-bound, few enough that the widest
 * intermediate stays in the last-level cache and the memory of a step is bounded.
 */
const SLICE_ROWS = 512;

/** One segment on one slice; its hidden state moves to the other buffer when it writes one. */
async function runSegment(
  segment: Session,
  slice: Slice,
  finishesLayer: boolean,
  startsLayer: boolean,
): Promise<void> {
  const { hidden, hiddenOut, qkv, attended } = slice;
  await segment.run(finishesLayer ? { hidden, attended } : { hidden }, {
    ...(finishesLayer ? { hidden_out: hiddenOut } : {}),
    ...(startsLayer ? { qkv } : {}),
  });
  if (finishesLayer) {
    slice.hidden = hiddenOut;
    slice.hiddenOut = hidden;
  }
}

interface StepBuffers {
  qkv: Float32Array;
  attended: Float32Array;
  /** The second hidden-state buffer: segments cannot write over their input. */
  spare: Float32Array;
  slices: Slice[];
}

/** Activation buffers that grow to the largest step seen, and slices over them for a row count. */
function createStepBuffers(
  model: ModelConfig,
): (hidden: Float32Array, rows: number) => StepBuffers {
  const attendedWidth = model.numQueryHeads * model.headDim;
  let capacity = 0;
  let spareAll = new Float32Array(0);
  let qkvAll = new Float32Array(0);
  let attendedAll = new Float32Array(0);
  return (hidden, rows) => {
    if (rows > capacity) {
      capacity = rows;
      spareAll = new Float32Array(rows * model.hiddenSize);
      qkvAll = new Float32Array(rows * qkvWidth(model));
      attendedAll = new Float32Array(rows * attendedWidth);
    }
    const spare = spareAll.subarray(0, rows * model.hiddenSize);
    const qkv = qkvAll.subarray(0, rows * qkvWidth(model));
    const attended = attendedAll.subarray(0, rows * attendedWidth);
    const slices: Slice[] = [];
    for (let begin = 0; begin < rows; begin += SLICE_ROWS) {
      const end = Math.min(begin + SLICE_ROWS, rows);
      const view = (buffer: Float32Array, width: number) =>
        createTensor(buffer.subarray(begin * width, end * width), [end - begin, width]);
      slices.push({
        hidden: view(hidden, model.hiddenSize),
        hiddenOut: view(spare, model.hiddenSize),
        qkv: view(qkv, qkvWidth(model)),
        attended: view(attended, attendedWidth),
      });
    }
    return { spare, qkv, attended, slices };
  };
}
