import type { Quantization } from "../messages/index.js";
import type { NativeAddon } from "../native/index.js";
import type { GraphBuilder } from "../onnx/index.js";
import type { Scratch } from "./scratch.js";
import type { LinearSpec, TensorSpec } from "./tensor-names.js";
import type { WeightSource } from "./weight-source.js";

/** An input of linear layers in the form that the weight format multiplies. */
export interface Activation {
  /** fp32, or uint8 with zero point 128, [rows, width]. */
  value: string;
  /** fp32 [rows, 1]: what a row of `value` was divided by; null when it was not. */
  rowScale: string | null;
}

/** A product whose rows are `value` times `rowScale`, fp32 [rows, 1]; null for 1. */
export interface Product {
  value: string;
  rowScale: string | null;
}

/** Where the values of weights come from and how their run-time bytes reach the session. */
export interface WeightAccess {
  source: WeightSource;
  scratch: Scratch;
  addBuffer(data: Uint8Array): { location: string; offset: number; length: number };
}

/**
 * A run-time form of weight matrices. Every form here is row-invariant: a row of the product has the
 * same bits whatever other rows are in the batch, which warm = cold and batch = alone rest on.
 */
export interface WeightFormat {
  /** What prepare() takes as `rowConstants`: a uint8 for each row; null for nothing. */
  readonly rowConstant: number | null;
  /** `pending` is what a product brought along that was not scaled yet; it goes into the scale. */
  prepare(
    g: GraphBuilder,
    x: string,
    rowConstants: string | null,
    pending?: string | null,
  ): Activation;
  /** x W^T without bias, fp32 [rows, spec.rows]; its rows are still to be scaled. */
  multiply(g: GraphBuilder, x: Activation, spec: LinearSpec, weights: WeightAccess): Product;
}

export function weightFormat(quantization: Quantization, native: NativeAddon): WeightFormat {
  if (quantization === "int8") return int8Format(native);
  if (quantization === "int4") return int4Format(native);
  return float32Format();
}

/** Exact fp32 products: Gemm over [out, in] matrices as checkpoints store them. */
function float32Format(): WeightFormat {
  return {
    rowConstant: null,
    prepare: (_, x) => ({ value: x, rowScale: null }),
    multiply(g, x, spec, { source, scratch, addBuffer }) {
      const ranges = spec.weights.map((tensor) => source.rangeInPlace(tensor));
      if (ranges.every((range) => range !== null)) {
        const products = spec.weights.map(({ shape }, i) =>
          g.op("Gemm", [x.value, g.external("float32", shape, ranges[i]!)], { transB: 1 }),
        );
        const value = products.length === 1 ? products[0]! : g.op("Concat", products, { axis: 1 });
        return { value, rowScale: null };
      }
      const values = new Float32Array(
        scratch.take(spec.rows * spec.cols * 4),
        0,
        spec.rows * spec.cols,
      );
      forEachChunk(spec, (tensor, begin, end, row) => {
        source.readRows(
          tensor,
          begin,
          end,
          values.subarray(row * spec.cols, (row + end - begin) * spec.cols),
        );
      });
      const shape = [spec.rows, spec.cols];
      // Beside constants in files there can be none in buffers.
      const weight = source.isInPlace
        ? g.constant("float32", shape, values)
        : g.external("float32", shape, addBuffer(bytesOf(values)));
      return { value: g.op("Gemm", [x.value, weight], { transB: 1 }), rowScale: null };
    },
  };
}

/** Of quantized activations. */
const ZERO_POINT = 128;

/**
 * int8 weights with a scale per output, uint8 activations with a scale per row, exact int32 sums.
 * A scale per row (instead of DynamicQuantizeMatMul's per tensor) keeps rows independent.
 */
function int8Format(native: NativeAddon): WeightFormat {
  return {
    // QuantizeLinear wants a zero point per row; made in the graph, they take two nodes each time.
    rowConstant: ZERO_POINT,
    prepare(g, x, zeroPoints, pending = null) {
      const last = g.constant("int64", [1], new BigInt64Array([-1n]));
      const greatest = g.op("ReduceMax", [x, last], { keepdims: 1 });
      const least = g.op("ReduceMin", [x, last], { keepdims: 1 });
      const range = g.op("Max", [greatest, g.op("Neg", [least]), scalar(g, 1e-30)]);
      const scale = g.op("Mul", [range, scalar(g, 1 / 127)]);
      const rowScale = pending === null ? scale : g.op("Mul", [scale, pending]);
      const inputs = [x, g.op("Reshape", [scale, last]), zeroPoints!];
      return { value: g.op("QuantizeLinear", inputs, { axis: 0 }), rowScale };
    },
    multiply(g, x, spec, { source, scratch, addBuffer }) {
      const matrix = new Int8Array(scratch.take(spec.rows * spec.cols), 0, spec.rows * spec.cols);
      const scales = new Float32Array(spec.rows);
      const chunk = chunkValues(spec, scratch);
      forEachChunk(spec, (tensor, begin, end, row) => {
        const values = chunk.subarray(0, (end - begin) * spec.cols);
        source.readRows(tensor, begin, end, values);
        native.quantizeInt8(values, end - begin, spec.cols, matrix, spec.rows, row, scales);
      });
      const weight = g.external("int8", [spec.cols, spec.rows], addBuffer(bytesOf(matrix)));
      const scale = g.constant("float32", [spec.rows], scales);
      const inputs = [x.value, weight, scalar(g, 1), scale, zeroPoint(g)];
      return { value: g.contrib("MatMulIntegerToFloat", inputs), rowScale: x.rowScale };
    },
  };
}

const INT4_BLOCK = 32;

const blocks = (cols: number) => Math.ceil(cols / INT4_BLOCK);
const packedBytes = (rows: number, cols: number) => (rows * blocks(cols) * INT4_BLOCK) / 2;

/** Run-time bytes of a [rows, cols] matrix. */
export const matrixBytes = {
  float32: (rows: number, cols: number) => rows * cols * 4,
  int8: (rows: number, cols: number) => rows * cols + rows * 4,
  /** ONNX Runtime's packed form adds a scale and a sum to each block and keeps the scales given. */
  int4: (rows: number, cols: number) => packedBytes(rows, cols) + rows * blocks(cols) * 12,
};

/** int4 weights in blocks of 32 with int8 compute; other block sizes are not row-invariant. */
function int4Format(native: NativeAddon): WeightFormat {
  return {
    rowConstant: null,
    prepare: (_, x) => ({ value: x, rowScale: null }),
    multiply(g, x, spec, { source, scratch, addBuffer }) {
      const perRow = blocks(spec.cols);
      const packed = new Uint8Array(
        scratch.take(packedBytes(spec.rows, spec.cols)),
        0,
        packedBytes(spec.rows, spec.cols),
      );
      const scales = new Float32Array(scratch.take(spec.rows * perRow * 4), 0, spec.rows * perRow);
      const chunk = chunkValues(spec, scratch);
      forEachChunk(spec, (tensor, begin, end, row) => {
        const values = chunk.subarray(0, (end - begin) * spec.cols);
        source.readRows(tensor, begin, end, values);
        const last = row + end - begin;
        native.quantizeInt4(
          values,
          end - begin,
          spec.cols,
          packed.subarray((row * perRow * INT4_BLOCK) / 2, (last * perRow * INT4_BLOCK) / 2),
          scales.subarray(row * perRow, last * perRow),
        );
      });
      const weight = g.external("uint8", [spec.rows, perRow, INT4_BLOCK / 2], addBuffer(packed));
      const scale = g.external("float32", [spec.rows * perRow], addBuffer(bytesOf(scales)));
      const attributes = {
        K: spec.cols,
        N: spec.rows,
        bits: 4,
        block_size: INT4_BLOCK,
        accuracy_level: 4,
      };
      return {
        value: g.contrib("MatMulNBits", [x.value, weight, scale], attributes),
        rowScale: null,
      };
    },
  };
}

/** Quantizing passes through fp32 pieces of at most this size. */
const CHUNK_BYTES = 4 << 20;

function chunkRows(spec: LinearSpec): number {
  return Math.max(1, Math.floor(CHUNK_BYTES / (spec.cols * 4)));
}

function chunkValues(spec: LinearSpec, scratch: Scratch): Float32Array {
  const length = Math.min(chunkRows(spec), spec.rows) * spec.cols;
  return new Float32Array(scratch.take(length * 4), 0, length);
}

/** Visits rows [begin, end) of each stacked tensor; `row` is the first's place in the whole. */
function forEachChunk(
  spec: LinearSpec,
  visit: (tensor: TensorSpec, begin: number, end: number, row: number) => void,
): void {
  const step = chunkRows(spec);
  let offset = 0;
  for (const tensor of spec.weights) {
    const rows = tensor.shape[0]!;
    for (let begin = 0; begin < rows; begin += step) {
      visit(tensor, begin, Math.min(begin + step, rows), offset + begin);
    }
    offset += rows;
  }
}

function scalar(g: GraphBuilder, value: number): string {
  return g.constant("float32", [], new Float32Array([value]));
}

function zeroPoint(g: GraphBuilder): string {
  return g.constant("uint8", [], new Uint8Array([ZERO_POINT]));
}

function bytesOf(view: ArrayBufferView): Uint8Array {
  return new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
}
