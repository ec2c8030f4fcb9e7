import type { Quantization } from "../messages/index.js";
import type { NativeAddon } from "../native/index.js";
import type { GraphBuilder } from "../onnx/index.js";
import { forEachPiece, type WeightAccess } from "./read-weights.js";
import type { LinearSpec } from "./tensor-names.js";

/** Where the values of weights come from and how their run-time bytes reach the session. */
export interface GraphWeights extends WeightAccess {
  addBuffer(data: Uint8Array): { location: string; offset: number; length: number };
}

/**
 * A run-time form of weight matrices in ONNX graphs. Every form here is row-invariant: a row of the
 * product has the same bits whatever other rows are in the batch, which warm = cold and batch = alone
 * rest on.
 */
export interface WeightFormat {
  /** x W^T without bias, fp32 [rows, spec.rows]. */
  multiply(g: GraphBuilder, x: string, spec: LinearSpec, weights: GraphWeights): string;
}

/** int8 has no graph: see int8-layers.ts. */
export function weightFormat(
  quantization: Exclude<Quantization, "int8">,
  native: NativeAddon,
): WeightFormat {
  return quantization === "int4" ? int4Format(native) : float32Format();
}

/** Exact fp32 products: Gemm over [out, in] matrices as checkpoints store them. */
function float32Format(): WeightFormat {
  return {
    multiply(g, x, spec, { source, scratch, addBuffer }) {
      const ranges = spec.weights.map((tensor) => source.rangeInPlace(tensor));
      if (ranges.every((range) => range !== null)) {
        const products = spec.weights.map(({ shape }, i) =>
          g.op("Gemm", [x, g.external("float32", shape, ranges[i]!)], { transB: 1 }),
        );
        return products.length === 1 ? products[0]! : g.op("Concat", products, { axis: 1 });
      }
      const values = new Float32Array(
        scratch.take(spec.rows * spec.cols * 4),
        0,
        spec.rows * spec.cols,
      );
      let row = 0;
      for (const tensor of spec.weights) {
        const rows = tensor.shape[0]!;
        source.readRows(
          tensor,
          0,
          rows,
          values.subarray(row * spec.cols, (row + rows) * spec.cols),
        );
        row += rows;
      }
      const shape = [spec.rows, spec.cols];
      // Beside constants in files there can be none in buffers.
      const weight = source.isInPlace
        ? g.constant("float32", shape, values)
        : g.external("float32", shape, addBuffer(bytesOf(values)));
      return g.op("Gemm", [x, weight], { transB: 1 });
    },
  };
}

const INT4_BLOCK = 32;

const blocks = (cols: number) => Math.ceil(cols / INT4_BLOCK);
const packedBytes = (rows: number, cols: number) => (rows * blocks(cols) * INT4_BLOCK) / 2;

/** Run-time bytes of a [rows, cols] matrix. */
export const matrixBytes = {
  float32: (rows: number, cols: number) => rows * cols * 4,
  /** Scale, bias and column sum of each output beside the bytes. */
  int8: (rows: number, cols: number) => rows * (cols + 12),
  /** ONNX Runtime's packed form adds a scale and a sum to each block and keeps the scales given. */
  int4: (rows: number, cols: number) => packedBytes(rows, cols) + rows * blocks(cols) * 12,
};

/** int4 weights in blocks of 32 with int8 compute; other block sizes are not row-invariant. */
function int4Format(native: NativeAddon): WeightFormat {
  return {
    multiply(g, x, spec, weights) {
      const { scratch, addBuffer } = weights;
      const perRow = blocks(spec.cols);
      const packed = new Uint8Array(
        scratch.take(packedBytes(spec.rows, spec.cols)),
        0,
        packedBytes(spec.rows, spec.cols),
      );
      const scales = new Float32Array(scratch.take(spec.rows * perRow * 4), 0, spec.rows * perRow);
      forEachPiece(spec, weights, (values, row, count) => {
        const last = row + count;
        native.quantizeInt4(
          values,
          count,
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
      return g.contrib("MatMulNBits", [x, weight, scale], attributes);
    },
  };
}

function bytesOf(view: ArrayBufferView): Uint8Array {
  return new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
}
