import type { Scratch } from "./scratch.js";
import type { LinearSpec, TensorSpec } from "./tensor-names.js";
import type { WeightSource } from "./weight-source.js";

/** Weights on their way into another form pass through fp32 pieces of at most this size. */
const CHUNK_BYTES = 4 << 20;

/** Where the values of weights come from, and memory for them to pass through. */
export interface WeightAccess {
  source: WeightSource;
  scratch: Scratch;
}

/**
 * Visits a linear layer's weights in fp32 pieces [count, cols]; `row` is the place of a piece's first row
 * in the whole. Values are good until the next visit.
 */
export function forEachPiece(
  spec: LinearSpec,
  { source, scratch }: WeightAccess,
  visit: (values: Float32Array, row: number, count: number) => void,
): void {
  const step = Math.max(1, Math.floor(CHUNK_BYTES / (spec.cols * 4)));
  const length = Math.min(step, spec.rows) * spec.cols;
  const chunk = new Float32Array(scratch.take(length * 4), 0, length);
  let offset = 0;
  for (const tensor of spec.weights) {
    const rows = tensor.shape[0]!;
    for (let begin = 0; begin < rows; begin += step) {
      const end = Math.min(begin + step, rows);
      const values = chunk.subarray(0, (end - begin) * spec.cols);
      source.readRows(tensor, begin, end, values);
      visit(values, offset + begin, end - begin);
    }
    offset += rows;
  }
}

/** A vector's values. */
export function readVector(source: WeightSource, spec: TensorSpec): Float32Array {
  source.check(spec);
  const values = new Float32Array(spec.shape[0]!);
  source.readRows(spec, 0, values.length, values);
  return values;
}

/** The biases of a linear layer, one after another, [spec.rows]. */
export function readBias(source: WeightSource, spec: LinearSpec): Float32Array {
  const bias = new Float32Array(spec.rows);
  let row = 0;
  for (const tensor of spec.biases) {
    bias.set(readVector(source, tensor), row);
    row += tensor.shape[0]!;
  }
  return bias;
}
