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

/** Gives the values of named tensors as fp32, from a checkpoint or made up. */
export interface WeightSource {
  /** Refuses a tensor that is missing or has another shape. UCM_ERR_WEIGHTS. */
  check(spec: TensorSpec): void;
  /** Rows [begin, end) of the first dimension into `out`, fp32, row-major. */
  readRows(spec: TensorSpec, begin: number, end: number, out: Float32Array): void;
  /** out[i, :] = tensor[ids[i], :] as fp32; the embedding lookup. */
  gather(spec: TensorSpec, ids: Int32Array, out: Float32Array): void;
  /**
   * Where a session can map the tensor's fp32 values from, or null. All tensors of a source are in
   * place or none is, as ONNX Runtime takes a graph's constants from files or from buffers.
   */
  rangeInPlace(spec: TensorSpec): FileRange | null;
  dispose(): void;
}

/** The row width of a matrix, 1 for a vector. */
function widthOf(spec: TensorSpec): number {
  return spec.shape.length === 1 ? 1 : spec.shape[1]!;
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
    if (tensor === undefined) {
      throw weightsError(
        `${folder}: tensor '${spec.name}' [${spec.shape.join(", ")}] is missing from the weights.`,
      );
    }
    if (tensor.shape.join() !== spec.shape.join()) {
      throw weightsError(
        `${folder}: tensor '${spec.name}' has shape [${tensor.shape.join(", ")}]; config.json asks for [${spec.shape.join(", ")}].`,
      );
    }
    return tensor;
  };
  const mapped = (tensor: StoredTensor) => {
    let mapping = mappings.get(tensor.path);
    if (mapping === undefined) {
      mapping = native.openMapping(tensor.path);
      mappings.set(tensor.path, mapping);
    }
    return { mapping, byteOffset: tensor.byteOffset, dtype: tensor.dtype };
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
    check: (spec) => void find(spec),
    readRows(spec, begin, end, out) {
      const tensor = find(spec);
      const width = widthOf(spec);
      const elementBytes = tensor.dtype === "float32" ? 4 : 2;
      const place = mapped(tensor);
      place.byteOffset += begin * width * elementBytes;
      native.convertToFloat32(place, (end - begin) * width, out);
      finish(tensor, out);
    },
    gather(spec, ids, out) {
      const tensor = find(spec);
      native.gatherRows(mapped(tensor), spec.shape[0]!, widthOf(spec), ids, out);
      finish(tensor, out);
    },
    rangeInPlace(spec) {
      if (!isInPlace) return null;
      const { path, byteOffset, byteLength } = find(spec);
      return { location: fromWorkingFolder(path), offset: byteOffset, length: byteLength };
    },
    dispose() {
      for (const mapping of mappings.values()) mapping.dispose();
      mappings.clear();
    },
  };
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
  const fillRow = (spec: TensorSpec, row: number, out: Float32Array) => {
    if (spec.name.endsWith("norm.weight")) out.fill(1);
    else native.fillRandom(out, seedOf(spec.name) + row, DUMMY_DEVIATION);
  };
  return {
    check: () => undefined,
    readRows(spec, begin, end, out) {
      const width = widthOf(spec);
      if (width === 1) {
        fillRow(spec, begin, out.subarray(0, end - begin));
        return;
      }
      for (let row = begin; row < end; row++) {
        fillRow(spec, row, out.subarray((row - begin) * width, (row - begin + 1) * width));
      }
    },
    gather(spec, ids, out) {
      const width = widthOf(spec);
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
