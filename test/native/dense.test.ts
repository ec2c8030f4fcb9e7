import { describe, expect, it } from "vitest";
import { expectError, native, randomArray } from "./addon.js";

/** A matrix of random weights and what they are after rounding to 255 steps of each row. */
function createLayer(rows: number, cols: number, seed: number) {
  const matrix = native.createInt8Matrix(rows, cols);
  const weight = randomArray(rows * cols, seed, 0.05);
  matrix.setRows(weight, 0, rows);
  return { matrix, rounded: roundRows(weight, rows, cols) };
}

/** Each row's values as whole multiples of its greatest magnitude / 127. */
function roundRows(values: Float32Array, rows: number, cols: number): Float64Array {
  const rounded = Float64Array.from(values);
  for (let row = 0; row < rows; row++) {
    const part = rounded.subarray(row * cols, (row + 1) * cols);
    const scale = part.reduce((most, x) => Math.max(most, Math.abs(x)), 0) / 127;
    for (const [i, x] of part.entries()) part[i] = Math.round(x / scale) * scale;
  }
  return rounded;
}

describe("int8 layers", () => {
  it("multiply rounded rows with rounded weights", () => {
    native.setThreads(2);
    const [rows, cols, count] = [150, 301, 20];
    const { matrix, rounded } = createLayer(rows, cols, 6);
    const bias = randomArray(rows, 7);
    matrix.setBias(bias);
    const x = randomArray(count * cols, 8);
    const roundedX = roundRows(x, count, cols);
    const activations = native.createInt8Rows();
    activations.quantize(x, count, cols);
    const out = new Float32Array(count * rows);
    activations.multiply(matrix, out, false);
    for (let r = 0; r < count; r++) {
      for (let n = 0; n < rows; n++) {
        let exact = bias[n]!;
        for (let k = 0; k < cols; k++) exact += roundedX[r * cols + k]! * rounded[n * cols + k]!;
        // A value halfway between two steps may go to either.
        expect(Math.abs(out[r * rows + n]! - exact)).toBeLessThan(2e-3);
      }
    }
    const twice = Float32Array.from(out);
    activations.multiply(matrix, twice, true);
    expect(twice).toEqual(out.map((y) => y + y));
    matrix.dispose();
    native.setThreads(1);
  });

  it("refuse what does not fit", () => {
    const { matrix } = createLayer(3, 2, 1);
    const other = createLayer(4, 2, 2).matrix;
    const rows = native.createInt8Rows();
    expectError(() => matrix.setRows(new Float32Array(4), 2, 2), "rows 2 to 4 do not fit");
    expectError(() => matrix.setRows(new Float32Array(3), 0, 2), "values has 3 elements");
    expectError(
      () => matrix.setBias(new Float32Array(2)),
      "bias has 2 elements, expected at least 3",
    );
    expectError(
      () => rows.quantize(new Float32Array(5), 2, 3),
      "x has 5 elements, expected at least 6",
    );
    rows.quantize(new Float32Array(6), 2, 3);
    expectError(
      () => rows.multiply(matrix, new Float32Array(6), false),
      "matrix has 2 columns, the rows are 3 wide",
    );
    rows.quantize(new Float32Array(4), 2, 2);
    expectError(
      () => rows.multiply(matrix, new Float32Array(5), false),
      "out has 5 elements, expected at least 6",
    );
    expectError(
      () => rows.multiplyGated(matrix, other, new Float32Array(8)),
      "gate has 3 outputs, up has 4",
    );
    const notAMatrix = { dispose() {} } as unknown as typeof matrix;
    expectError(
      () => rows.multiply(notAMatrix, new Float32Array(6), false),
      "matrix is not an int8 matrix",
    );
    matrix.dispose();
    expectError(() => rows.multiply(matrix, new Float32Array(6), false), "the matrix was disposed");
    expectError(() => native.createInt8Matrix(1, 70_000), "shape [1, 70000]");
  });

  it("refuse weights that are not finite", () => {
    const matrix = native.createInt8Matrix(2, 3);
    const weight = new Float32Array(6);
    weight[4] = Number.NaN;
    expectError(
      () => matrix.setRows(weight, 0, 2),
      "row 1 of the weight holds a NaN or an infinity",
    );
  });
});
