import type { Session, Tensor } from "../onnx/index.js";
import type { DenseLayers, LayersContext } from "./dense-model.js";
import { createRowBuffers } from "./row-buffers.js";
import { createSegment, type SegmentContext } from "./segment.js";
import { type LayerSpec, layerSpec } from "./tensor-names.js";

/**
 * The layers of one rank alone: segment 0 makes layer 0's projections, segment l finishes layer l-1
 * and starts layer l, the last finishes the last layer; one session each, so that a step of L layers
 * is L + 1 runs.
 */
export async function loadFusedLayers(
  context: LayersContext & SegmentContext,
): Promise<DenseLayers> {
  const { model, onSegment } = context;
  const layers = Array.from({ length: model.numLayers }, (_, i) => layerSpec(model, i));
  const segments: Session[] = [];
  for (let i = 0; i <= layers.length; i++) {
    segments.push(await buildSegment(context, layers[i - 1] ?? null, layers[i] ?? null));
    onSegment();
  }
  const buffers = createRowBuffers({
    hidden: model.hiddenSize,
    // Segments cannot write over their input: two hidden-state buffers take turns.
    hiddenOut: model.hiddenSize,
    qkv: layers[0]!.qkv.rows,
    attended: layers[0]!.output.cols,
  });

  return {
    async forward(hidden, rows, attend) {
      const { all, slices } = buffers(hidden, rows);
      for (const [i, segment] of segments.entries()) {
        for (const slice of slices) await runSegment(segment, slice, i > 0, i < model.numLayers);
        if (i < model.numLayers) attend(i, all.qkv, all.attended);
      }
      if (model.numLayers % 2 === 1) hidden.set(all.hiddenOut);
    },
    async dispose() {
      for (const session of segments) await session.dispose();
    },
  };
}

/** Finishes layer `previous` (null for none) and starts layer `next`. */
async function buildSegment(
  options: LayersContext & SegmentContext,
  previous: LayerSpec | null,
  next: LayerSpec | null,
): Promise<Session> {
  const { model } = options;
  const s = createSegment("segment", options);
  const hidden = s.input("hidden", model.hiddenSize);
  const startNext = (normed: string) => {
    s.output(s.linear(normed, next!.qkv), "qkv", next!.qkv.rows);
  };
  if (previous === null) {
    startNext(s.norm(hidden, next!.inputNorm));
    return s.finish();
  }
  const attended = s.input("attended", previous.output.cols);
  const projected = s.linear(attended, previous.output);
  const [residual, normed] = s.addNorm(projected, hidden, previous.postNorm);
  const fed = s.mlp(normed, previous);
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
type Slice = Record<"hidden" | "hiddenOut" | "qkv" | "attended", Tensor>;

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
