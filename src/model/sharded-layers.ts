import type { Session, Tensor } from "../onnx/index.js";
import type { DenseLayers, LayersContext } from "./dense-model.js";
import { createRowBuffers } from "./row-buffers.js";
import { createSegment, type SegmentContext } from "./segment.js";
import { type LayerSpec, layerSpec } from "./tensor-names.js";

/** Sessions of one layer of a shard; the outputs of the last two are one rank's terms of a sum. */
interface ShardedLayer {
  /** hidden (+ mlp_sum of the layer before) -> hidden_out, qkv. */
  project: Session;
  /** attended -> attention_sum. */
  output: Session;
  /** hidden + attention_sum -> hidden_out; its norm through the MLP -> mlp_sum. */
  mlp: Session;
}

/**
 * The layers of one rank of several (Megatron's cut): query, key, value, gate and up by output,
 * attention's output and down by input, so that two sums over the ranks per layer are all they
 * exchange. The residual stream is the same on every rank.
 */
export async function loadShardedLayers(
  context: LayersContext & SegmentContext,
): Promise<DenseLayers> {
  const { model, shard, comm, onSegment } = context;
  const specs = Array.from({ length: model.numLayers }, (_, i) => layerSpec(model, i, shard));
  const layers: ShardedLayer[] = [];
  for (const [i, spec] of specs.entries()) {
    layers.push({
      project: await buildProject(context, spec, i > 0),
      output: await buildOutput(context, spec),
      mlp: await buildMlp(context, spec),
    });
    onSegment();
  }
  const last = await buildLast(context);
  onSegment();
  const buffers = createRowBuffers({
    hidden: model.hiddenSize,
    // Segments cannot write over their input: two hidden-state buffers take turns.
    hiddenOut: model.hiddenSize,
    qkv: specs[0]!.qkv.rows,
    attended: specs[0]!.output.cols,
    attentionSum: model.hiddenSize,
    mlpSum: model.hiddenSize,
  });

  return {
    async forward(hidden, rows, attend) {
      const { all, slices } = buffers(hidden, rows);
      for (const [i, layer] of layers.entries()) {
        for (const slice of slices) await runProject(layer.project, slice, i > 0);
        attend(i, all.qkv, all.attended);
        for (const { attended, attentionSum } of slices) {
          await layer.output.run({ attended }, { attention_sum: attentionSum });
        }
        comm!.allReduceSum(all.attentionSum);
        for (const slice of slices) await runMlp(layer.mlp, slice);
        comm!.allReduceSum(all.mlpSum);
      }
      // An even number of turns: the result is in the caller's buffer.
      for (const slice of slices) {
        const { hidden, hiddenOut, mlpSum } = slice;
        await last.run({ hidden, mlp_sum: mlpSum }, { hidden_out: hiddenOut });
      }
    },
    async dispose() {
      for (const layer of layers) for (const part of Object.values(layer)) await part.dispose();
      await last.dispose();
    },
  };
}

type Slice = Record<
  "hidden" | "hiddenOut" | "qkv" | "attended" | "attentionSum" | "mlpSum",
  Tensor
>;

async function runProject(project: Session, slice: Slice, hasBefore: boolean): Promise<void> {
  const { hidden, hiddenOut, mlpSum, qkv } = slice;
  if (!hasBefore) {
    await project.run({ hidden }, { qkv });
    return;
  }
  await project.run({ hidden, mlp_sum: mlpSum }, { hidden_out: hiddenOut, qkv });
  swapHidden(slice);
}

async function runMlp(mlp: Session, slice: Slice): Promise<void> {
  const { hidden, hiddenOut, attentionSum, mlpSum } = slice;
  await mlp.run(
    { hidden, attention_sum: attentionSum },
    { hidden_out: hiddenOut, mlp_sum: mlpSum },
  );
  swapHidden(slice);
}

function swapHidden(slice: Slice): void {
  [slice.hidden, slice.hiddenOut] = [slice.hiddenOut, slice.hidden];
}

async function buildProject(
  context: LayersContext & SegmentContext,
  layer: LayerSpec,
  hasBefore: boolean,
): Promise<Session> {
  const { hiddenSize } = context.model;
  const s = createSegment("project", context);
  const hidden = s.input("hidden", hiddenSize);
  let normed: string;
  if (hasBefore) {
    const [sum, sumNormed] = s.addNorm(s.input("mlp_sum", hiddenSize), hidden, layer.inputNorm);
    s.output(sum, "hidden_out", hiddenSize);
    normed = sumNormed;
  } else {
    normed = s.norm(hidden, layer.inputNorm);
  }
  s.output(s.linear(normed, layer.qkv), "qkv", layer.qkv.rows);
  return s.finish();
}

async function buildOutput(
  context: LayersContext & SegmentContext,
  layer: LayerSpec,
): Promise<Session> {
  const s = createSegment("output", context);
  const attended = s.input("attended", layer.output.cols);
  s.output(s.linear(attended, layer.output), "attention_sum", layer.output.rows);
  return s.finish();
}

async function buildMlp(
  context: LayersContext & SegmentContext,
  layer: LayerSpec,
): Promise<Session> {
  const { hiddenSize } = context.model;
  const s = createSegment("mlp", context);
  const attention = s.input("attention_sum", hiddenSize);
  const [sum, normed] = s.addNorm(attention, s.input("hidden", hiddenSize), layer.postNorm);
  s.output(sum, "hidden_out", hiddenSize);
  s.output(s.mlp(normed, layer), "mlp_sum", hiddenSize);
  return s.finish();
}

async function buildLast(context: LayersContext & SegmentContext): Promise<Session> {
  const { hiddenSize } = context.model;
  const s = createSegment("last", context);
  const sum = s.add(s.input("mlp_sum", hiddenSize), s.input("hidden", hiddenSize));
  s.output(sum, "hidden_out", hiddenSize);
  return s.finish();
}
