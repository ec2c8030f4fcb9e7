import type { ScheduledSequence } from "../messages/index.js";
import type { BatchSpec } from "../native/index.js";
import type { WorkerSequence } from "./sequence-table.js";

/** One sequence's part of a step. */
export interface BatchEntry<State> {
  sequence: WorkerSequence<State>;
  /** First token computed by the step. */
  begin: number;
  /** One past the last. */
  end: number;
  /** Row of token `begin`. */
  firstRow: number;
}

export interface Batch<State> {
  entries: BatchEntry<State>[];
  rows: number;
  /** int32 [rows]: token ids in row order. */
  tokenIds: Int32Array;
  spec: BatchSpec;
}

/**
 * Lays the scheduled tokens out as consecutive rows, and the block tables as the arena reads them. A
 * sequence that dropped blocks counts the tokens that it keeps.
 */
export function layOutBatch<State>(
  scheduled: readonly ScheduledSequence[],
  find: (step: ScheduledSequence) => WorkerSequence<State>,
  blockSize: number,
): Batch<State> {
  let rows = 0;
  const entries = scheduled.map((step) => {
    const begin = step.numComputedTokens;
    const entry = { sequence: find(step), begin, end: begin + step.numTokens, firstRow: rows };
    rows += step.numTokens;
    return entry;
  });
  const tokenIds = new Int32Array(rows);
  for (const { sequence, begin, end, firstRow } of entries) {
    tokenIds.set(sequence.tokenIds.subarray(begin, end), firstRow);
  }
  return { entries, rows, tokenIds, spec: batchSpec(entries, rows, blockSize) };
}

function batchSpec<State>(
  entries: readonly BatchEntry<State>[],
  rows: number,
  blockSize: number,
): BatchSpec {
  const numBlocks = entries.reduce((sum, { sequence }) => sum + sequence.blockIds.length, 0);
  const spec = {
    queryStart: new Int32Array(entries.length + 1),
    contextLens: new Int32Array(entries.length),
    blockStart: new Int32Array(entries.length + 1),
    blockIds: new Int32Array(numBlocks),
  };
  let block = 0;
  for (const [i, { sequence, end, firstRow }] of entries.entries()) {
    spec.queryStart[i] = firstRow;
    spec.contextLens[i] = end - sequence.numDroppedBlocks * blockSize;
    spec.blockStart[i] = block;
    spec.blockIds.set(sequence.blockIds, block);
    block += sequence.blockIds.length;
  }
  spec.queryStart[entries.length] = rows;
  spec.blockStart[entries.length] = block;
  return spec;
}
