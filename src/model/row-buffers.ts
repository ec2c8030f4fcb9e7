import { createTensor, type Tensor } from "../onnx/index.js";

/**
 * Rows that a segment takes at once: enough to be compute-bound, few enough that the widest
 * intermediate stays in the last-level cache and the memory of a step is bounded.
 */
export const SLICE_ROWS = 512;

/** Activations of a step, fp32 [rows, width] each, and the same rows in slices. */
export interface RowBuffers<Name extends string> {
  all: Record<Name, Float32Array>;
  slices: Record<Name, Tensor>[];
}

/**
 * Activation buffers of the given row widths that grow to the largest step seen. `hidden` is the
 * caller's own.
 */
export function createRowBuffers<Name extends string>(
  widths: Record<Name, number> & { hidden: number },
): (hidden: Float32Array, rows: number) => RowBuffers<Name> {
  const names = Object.keys(widths) as Name[];
  let kept = {} as Record<Name, Float32Array>;
  let capacity = 0;
  const forEachName = <T>(value: (name: Name, width: number) => T) =>
    Object.fromEntries(names.map((name) => [name, value(name, widths[name])])) as Record<Name, T>;
  return (hidden, rows) => {
    if (rows > capacity) {
      capacity = rows;
      kept = forEachName((name, width) =>
        name === "hidden" ? hidden : new Float32Array(rows * width),
      );
    }
    const all = forEachName((name, width) =>
      name === "hidden" ? hidden : kept[name].subarray(0, rows * width),
    );
    const slices: Record<Name, Tensor>[] = [];
    for (let begin = 0; begin < rows; begin += SLICE_ROWS) {
      const end = Math.min(begin + SLICE_ROWS, rows);
      slices.push(
        forEachName((name, width) =>
          createTensor(all[name].subarray(begin * width, end * width), [end - begin, width]),
        ),
      );
    }
    return { all, slices };
  };
}
