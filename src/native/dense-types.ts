/**
 * int8 weights of a linear layer [rows, cols], in native memory: an output per row, whose scale is
 * max |row| / 127, and a bias that is zero until it is set.
 */
export interface Int8Matrix {
  /** Quantizes fp32 `values` [count, cols] as rows `first` on. Throws on one that is not finite. */
  setRows(values: Float32Array, first: number, count: number): void;
  /** fp32 [rows]. */
  setBias(bias: Float32Array): void;
  dispose(): void;
}

/**
 * Activations in bytes with a scale per row (max / 127), and their products with matrices: exact sums of
 * the bytes, then fp32. A row's results depend on itself alone, bit for bit. A row with a NaN or an
 * infinity gives NaN.
 */
export interface Int8Rows {
  /** Takes x, fp32 [rows, width], in place of what it held. */
  quantize(x: Float32Array, rows: number, width: number): void;
  /** The same of the rows' RMS norm with `weight`, fp32 [width]. */
  quantizeNormed(
    x: Float32Array,
    rows: number,
    width: number,
    weight: Float32Array,
    eps: number,
  ): void;
  /** out = x W^T + bias, fp32 [rows, matrix.rows]; added to what is there when it accumulates. */
  multiply(matrix: Int8Matrix, out: Float32Array, accumulate: boolean): void;
  /** out = silu(x Wg^T + bg) * (x Wu^T + bu), fp32 [rows, gate.rows]. */
  multiplyGated(gate: Int8Matrix, up: Int8Matrix, out: Float32Array): void;
}

/** What ucm.node exports for dense layers. */
export interface DenseAddon {
  /** Throws on cols above 65,536, and when there is no memory. */
  createInt8Matrix(rows: number, cols: number): Int8Matrix;
  createInt8Rows(): Int8Rows;
}
