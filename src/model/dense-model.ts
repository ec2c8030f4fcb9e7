import { createTensor, type Session, type Tensor } from "../onnx/index.js";
import type { ModelConfig } from "./model-config.js";
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

export interface DenseModelOptions extends SegmentContext {
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
  const head = await buildHead(options);
  options.collectGarbage();
  onProgress(1, total);
  const segments: Session[] = [];
  for (let i = 0; i <= layers.length; i++) {
    segments.push(await buildSegment(options, layers[i - 1] ?? null, layers[i] ?? null));
    onProgress(i + 2, total);
  }
  const buffers = createStepBuffers(model);

  return {
    async forward(hidden, rows, attend) {
      const t = buffers(hidden, rows);
      for (const [i, segment] of segments.entries()) {
        const isFirst = i === 0;
        const isLast = i === model.numLayers;
        await segment.run(
          isFirst ? { hidden: t.hidden } : { hidden: t.hidden, attended: t.attended },
          { ...(isFirst ? {} : { hidden_out: t.hiddenOut }), ...(isLast ? {} : { qkv: t.qkv }) },
        );
        if (!isFirst) [t.hidden, t.hiddenOut] = [t.hiddenOut, t.hidden];
        if (!isLast) attend(i, t.qkv.data as Float32Array, t.attended.data as Float32Array);
      }
      if (t.hidden.data !== hidden) hidden.set(t.hidden.data as Float32Array);
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

async function buildHead(options: DenseModelOptions): Promise<Session> {
  const { model } = options;
  const s = createSegment("head", options);
  const normed = s.norm(s.input("hidden", model.hiddenSize), finalNormSpec(model));
  s.output(s.linear(s.activation(normed), headSpec(model)), "logits", model.vocabSize);
  return s.finish();
}

/** Finishes layer `previous` (null for none) and starts layer `next`. */
async function buildSegment(
  options: DenseModelOptions,
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

interface StepTensors {
  hidden: Tensor;
  hiddenOut: Tensor;
  qkv: Tensor;
  attended: Tensor;
}

/** Activation buffers that grow to the largest step seen, and tensors over them for a row count. */
function createStepBuffers(
  model: ModelConfig,
): (hidden: Float32Array, rows: number) => StepTensors {
  const attendedWidth = model.numQueryHeads * model.headDim;
  let capacity = 0;
  let hiddenOut = new Float32Array(0);
  let qkv = new Float32Array(0);
  let attended = new Float32Array(0);
  return (hidden, rows) => {
    if (rows > capacity) {
      capacity = rows;
      hiddenOut = new Float32Array(rows * model.hiddenSize);
      qkv = new Float32Array(rows * qkvWidth(model));
      attended = new Float32Array(rows * attendedWidth);
    }
    const view = (buffer: Float32Array, width: number) =>
      createTensor(buffer.subarray(0, rows * width), [rows, width]);
    return {
      hidden: createTensor(hidden, [rows, model.hiddenSize]),
      hiddenOut: view(hiddenOut, model.hiddenSize),
      qkv: view(qkv, qkvWidth(model)),
      attended: view(attended, attendedWidth),
    };
  };
}
