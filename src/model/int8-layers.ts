import { setImmediate } from "node:timers/promises";
import type { Int8Matrix, NativeAddon } from "../native/index.js";
import type { DenseLayers, Head, LayersContext, PartsContext } from "./dense-model.js";
import { forEachPiece, readBias, readVector, type WeightAccess } from "./read-weights.js";
import { SLICE_ROWS } from "./row-buffers.js";
import {
  finalNormSpec,
  headSpec,
  type LayerSpec,
  type LinearSpec,
  layerSpec,
} from "./tensor-names.js";

/** How long layers keep the event loop waiting, at least; a turn of it costs a decode step 40 µs. */
const TURN_MS = 5;

interface Int8Layer {
  inputNorm: Float32Array;
  qkv: Int8Matrix;
  output: Int8Matrix;
  postNorm: Float32Array;
  gate: Int8Matrix;
  up: Int8Matrix;
  down: Int8Matrix;
}

/**
 * The layers of one rank with int8 weights, by native code. Of several ranks (Megatron's cut), rank 0 adds
 * the residual stream to its terms of the sums, so that the sums are the stream itself.
 */
export async function loadInt8Layers(
  context: LayersContext,
  native: NativeAddon,
): Promise<DenseLayers> {
  const { model, shard, comm, onSegment, normEps } = context;
  const layers: Int8Layer[] = [];
  const specs = Array.from({ length: model.numLayers }, (_, i) => layerSpec(model, i, shard));
  for (const spec of specs) {
    layers.push(loadLayer(spec, context, native));
    context.scratch.reset();
    onSegment();
    // The progress is sent.
    await setImmediate();
  }
  onSegment();
  const { qkv, output, gate } = specs[0]!;
  const x = native.createInt8Rows();
  const addsResidual = shard.rank === 0;
  let projected = new Float32Array(0);
  let attended = new Float32Array(0);
  let fed = new Float32Array(0);

  function feed(layer: Int8Layer, hidden: Float32Array, rows: number): void {
    // Few enough rows that the widest tensor of a layer stays in the last-level cache.
    for (let begin = 0; begin < rows; begin += SLICE_ROWS) {
      const count = Math.min(SLICE_ROWS, rows - begin);
      const slice = hidden.subarray(begin * model.hiddenSize, (begin + count) * model.hiddenSize);
      x.quantizeNormed(slice, count, model.hiddenSize, layer.postNorm, normEps);
      x.multiplyGated(layer.gate, layer.up, fed);
      x.quantize(fed, count, gate.rows);
      x.multiply(layer.down, slice, addsResidual);
    }
  }

  return {
    async forward(hidden, rows, attend) {
      if (attended.length < rows * output.cols) {
        projected = new Float32Array(rows * qkv.rows);
        attended = new Float32Array(rows * output.cols);
        fed = new Float32Array(Math.min(rows, SLICE_ROWS) * gate.rows);
      }
      const stepProjected = projected.subarray(0, rows * qkv.rows);
      const stepAttended = attended.subarray(0, rows * output.cols);
      let turnMs = performance.now();
      for (const [i, layer] of layers.entries()) {
        x.quantizeNormed(hidden, rows, model.hiddenSize, layer.inputNorm, normEps);
        x.multiply(layer.qkv, stepProjected, false);
        attend(i, stepProjected, stepAttended);
        x.quantize(stepAttended, rows, output.cols);
        x.multiply(layer.output, hidden, addsResidual);
        comm?.allReduceSum(hidden);
        feed(layer, hidden, rows);
        comm?.allReduceSum(hidden);
        // Messages come in between two layers; a long prompt's step takes seconds.
        if (performance.now() - turnMs < TURN_MS) continue;
        await setImmediate();
        turnMs = performance.now();
      }
    },
    async dispose() {
      for (const { qkv, output, gate, up, down } of layers) {
        for (const matrix of [qkv, output, gate, up, down]) matrix.dispose();
      }
    },
  };
}

/** The head of one rank with int8 weights. */
export function loadInt8Head(context: PartsContext, native: NativeAddon): Head {
  const { model, shard, normEps } = context;
  const matrix = loadMatrix(headSpec(model, shard), context, native);
  const norm = readVector(context.source, finalNormSpec(model));
  const x = native.createInt8Rows();
  return {
    async run(hidden, rows, logits) {
      x.quantizeNormed(hidden, rows, model.hiddenSize, norm, normEps);
      x.multiply(matrix, logits, false);
    },
    async dispose() {
      matrix.dispose();
    },
  };
}

function loadLayer(spec: LayerSpec, access: WeightAccess, native: NativeAddon): Int8Layer {
  const load = (linear: LinearSpec) => loadMatrix(linear, access, native);
  return {
    inputNorm: readVector(access.source, spec.inputNorm),
    qkv: load(spec.qkv),
    output: load(spec.output),
    postNorm: readVector(access.source, spec.postNorm),
    gate: load(spec.gate),
    up: load(spec.up),
    down: load(spec.down),
  };
}

function loadMatrix(spec: LinearSpec, access: WeightAccess, native: NativeAddon): Int8Matrix {
  for (const tensor of spec.weights) access.source.check(tensor);
  const matrix = native.createInt8Matrix(spec.rows, spec.cols);
  forEachPiece(spec, access, (values, row, count) => matrix.setRows(values, row, count));
  matrix.setBias(readBias(access.source, spec));
  return matrix;
}
