import { createHash } from "node:crypto";
import { realpathSync } from "node:fs";
import { relative } from "node:path";
import type { WeightDtype } from "../messages/index.js";
import type { FileMapping, FloatDtype, NativeAddon } from "../native/index.js";
import { listTensors, type StoredTensor, weightsError } from "./safetensors.js";
import type { TensorSpec } from "./tensor-names.js";

/** Bytes of a file; `location` is its path from the working folder. */
export interface FileRange {
  location: string;
  offset: number;
  length: number;
}

/**
 * Gives the values of named tensors, or of parts of them, as fp32, from a checkpoint or made up. Rows
 * and columns are those of the part.
 */
export interface WeightSource {
  /** Whether sessions may map tensors from files: all of them then, but for parts of columns. */
  readonly isInPlace: boolean;
  /** Refuses a tensor that is missing or has another shape. UCM_ERR_WEIGHTS. */
  check(spec: TensorSpec): void;
  /** Rows [begin, end) of the first dimension into `out`, fp32, row-major. */
  readRows(spec: TensorSpec, begin: number, end: number, out: Float32Array): void;
  /** out[i, :] = tensor[ids[i], :] as fp32; the embedding lookup. */
  gather(spec: TensorSpec, ids: Int32Array, out: Float32Array): void;
  /**
   * Where a session can map the fp32 values from; null for a part of columns, and where the source is
   * not in place. ONNX Runtime takes a graph's external constants from files or from buffers.
   */
  rangeInPlace(spec: TensorSpec): FileRange | null;
  dispose(): void;
}

/** The row width of a matrix, 1 for a vector. */
function widthOf(shape: readonly number[]): number {
  return shape.length === 1 ? 1 : shape[1]!;
}

/** A tensor's part in the terms of the whole. */
function placeOf({ shape, whole }: TensorSpec) {
  const { row, col } = whole ?? { row: 0, col: 0 };
  return { row, col, width: widthOf(shape), wholeWidth: widthOf(whole?.shape ?? shape) };
}

/**
 * Weights of a checkpoint folder, memory-mapped. Values are the checkpoint's own, exactly, unless
 * `dtype` names a narrower type than theirs: then each is rounded to it first (to nearest even).
 */
export function openCheckpoint(
  folder: string,
  dtype: WeightDtype,
  native: NativeAddon,
): WeightSource {
  const tensors = listTensors(folder);
  const mappings = new Map<string, FileMapping>();
  const find = (spec: TensorSpec): StoredTensor => {
    const tensor = tensors.get(spec.name);
    const shape = spec.whole?.shape ?? spec.shape;
    if (tensor === undefined) {
      throw weightsError(
        `${folder}: tensor '${spec.name}' [${shape.join(", ")}] is missing from the weights.`,
      );
    }
    if (tensor.shape.join() !== shape.join()) {
      throw weightsError(
        `${folder}: tensor '${spec.name}' has shape [${tensor.shape.join(", ")}]; config.json asks for [${shape.join(", ")}].`,
      );
    }
    return tensor;
  };
  /** The place of an element of the tensor. */
  const mapped = (tensor: StoredTensor, element: number) => {
    let mapping = mappings.get(tensor.path);
    if (mapping === undefined) {
      mapping = native.openMapping(tensor.path);
      mappings.set(tensor.path, mapping);
    }
    const byteOffset = tensor.byteOffset + element * elementBytes(tensor);
    return { mapping, byteOffset, dtype: tensor.dtype };
  };
  const roundsTo = (tensor: StoredTensor): FloatDtype | null =>
    dtype === "auto" || dtype === "float32" || dtype === tensor.dtype ? null : dtype;
  const finish = (tensor: StoredTensor, out: Float32Array) => {
    const target = roundsTo(tensor);
    if (target !== null) native.roundToDtype(out, target);
  };
  const isInPlace = [...tensors.values()].every(
    (tensor) =>
      tensor.dtype === "float32" &&
      roundsTo(tensor) === null &&
      !fromWorkingFolder(tensor.path).startsWith(".."),
  );

  return {
    isInPlace,
    check: (spec) => void find(spec),
    readRows(spec, begin, end, out) {
      const tensor = find(spec);
      const { row, col, width, wholeWidth } = placeOf(spec);
      const first = (row + begin) * wholeWidth + col;
      if (width === wholeWidth) {
        native.convertToFloat32(mapped(tensor, first), (end - begin) * width, out);
      } else {
        // Row by row, so that nothing but the part is read.
        for (let i = 0; i < end - begin; i++) {
          const place = mapped(tensor, first + i * wholeWidth);
          native.convertToFloat32(place, width, out.subarray(i * width, (i + 1) * width));
        }
      }
      finish(tensor, out);
    },
    gather(spec, ids, out) {
      const tensor = find(spec);
      const { row, width } = placeOf(spec);
      native.gatherRows(mapped(tensor, row * width), spec.shape[0]!, width, ids, out);
      finish(tensor, out);
    },
    rangeInPlace(spec) {
      const { row, width, wholeWidth } = placeOf(spec);
      if (!isInPlace || width !== wholeWidth) return null;
      const tensor = find(spec);
      return {
        location: fromWorkingFolder(tensor.path),
        offset: tensor.byteOffset + row * width * elementBytes(tensor),
        length: spec.shape.reduce((product, dim) => product * dim, elementBytes(tensor)),
      };
    },
    dispose() {
      for (const mapping of mappings.values()) mapping.dispose();
      mappings.clear();
    },
  };
}

function elementBytes({ dtype }: StoredTensor): number {
  return dtype === "float32" ? 4 : 2;
}

/**
 * Links followed: ONNX Runtime maps only files that really are below the working folder, which in a
 * worker is the model's. A hub cache's links lead out of it.
 */
function fromWorkingFolder(path: string): string {
  return relative(realpathSync("."), realpathSync(path));
}

/** Standard deviation of made-up matrices, the initializer_range of the supported architectures. */
const DUMMY_DEVIATION = 0.02;

/**
 * Random weights from shapes alone (`--load-format dummy`): every row of every tensor is a pure
 * function of (seed, tensor name, row), so all tensors differ. Norm weights, the only tensors whose
 * name ends in `norm.weight`, are ones.
 */
export function openDummyWeights(seed: number, native: NativeAddon): WeightSource {
  const seedOf = seedByName(seed);
  const fillWhole = (spec: TensorSpec, row: number, out: Float32Array) => {
    if (spec.name.endsWith("norm.weight")) out.fill(1);
    else native.fillRandom(out, seedOf(spec.name) + row, DUMMY_DEVIATION);
  };
  const fillRow = (spec: TensorSpec, i: number, out: Float32Array) => {
    const { row, col, width, wholeWidth } = placeOf(spec);
    if (out.length === wholeWidth) {
      fillWhole(spec, row + i, out);
      return;
    }
    const whole = new Float32Array(wholeWidth);
    fillWhole(spec, row + i, whole);
    out.set(whole.subarray(col, col + width));
  };
  return {
    isInPlace: false,
    check: () => undefined,
    readRows(spec, begin, end, out) {
      const { row, width } = placeOf(spec);
      if (spec.shape.length === 1) {
        // A vector is one draw, of which a part is a piece.
        const whole = new Float32Array(spec.whole?.shape[0] ?? spec.shape[0]!);
        fillWhole(spec, 0, whole);
        out.set(whole.subarray(row + begin, row + end));
        return;
      }
      for (let i = begin; i < end; i++) {
        fillRow(spec, i, out.subarray((i - begin) * width, (i - begin + 1) * width));
      }
    },
    gather(spec, ids, out) {
      const { width } = placeOf(spec);
      ids.forEach((id, i) => {
        fillRow(spec, id, out.subarray(i * width, (i + 1) * width));
      });
    },
    rangeInPlace: () => null,
    dispose: () => undefined,
  };
}

/** A function from tensor name to a seed that differs for every (seed, name) in practice. */
function seedByName(seed: number): (name: string) => number {
  const known = new Map<string, number>();
  return (name) => {
    let base = known.get(name);
    if (base === undefined) {
      base = createHash("sha256").update(`${seed}/${name}`).digest().readUIntBE(0, 6);
      known.set(name, base);
    }
    return base;
  };
}
