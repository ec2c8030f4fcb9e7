import type { StepModel } from "./model-runner.js";

/** Rows that go through the head at once: bounds the logits buffer at 152k vocabularies. */
const HEAD_ROWS = 32;

/**
 * Puts the given rows of `hidden`, fp32 [rows, hiddenSize], through the head; on rank 0 `visit` sees
 * the logits of each, fp32 [vocab], which are its scratch.
 */
export type RowScorer = (
  hidden: Float32Array,
  rows: readonly number[],
  visit: (index: number, logits: Float32Array) => void,
) => Promise<void>;

export function createRowScorer({ config, dense, hasLogits }: StepModel): RowScorer {
  const { hiddenSize, vocabSize } = config;
  const headRows = new Float32Array(HEAD_ROWS * hiddenSize);
  const logits = new Float32Array(hasLogits ? HEAD_ROWS * vocabSize : 0);
  return async (hidden, rows, visit) => {
    for (let begin = 0; begin < rows.length; begin += HEAD_ROWS) {
      const part = rows.slice(begin, begin + HEAD_ROWS);
      for (const [i, row] of part.entries()) {
        headRows.set(hidden.subarray(row * hiddenSize, (row + 1) * hiddenSize), i * hiddenSize);
      }
      const out = logits.subarray(0, part.length * vocabSize);
      await dense.head(headRows.subarray(0, part.length * hiddenSize), part.length, out);
      for (let i = 0; hasLogits && i < part.length; i++) {
        visit(begin + i, out.subarray(i * vocabSize, (i + 1) * vocabSize));
      }
    }
  };
}
