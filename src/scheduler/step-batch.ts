import type { StepMessage, StoreTier, StoreWork } from "../messages/index.js";
import type { Sequence } from "./sequence.js";
import type { StartedSequence } from "./types.js";

interface BatchEntry {
  numTokens: number;
  newBlockIds: readonly number[];
  resetBlockTable: boolean;
  /** Hashes of the blocks that it fills. */
  filled: readonly string[];
}

/** The step that is being put together: what each sequence does, and the token budget left. */
export class StepBatch {
  readonly preempted: number[] = [];
  readonly #entries = new Map<Sequence, BatchEntry>();
  /** Hashes of blocks that are full after this step, of sequences whose prompt is then complete. */
  readonly #completed = new Set<string>();
  #budget: number;

  constructor(budget: number) {
    this.#budget = budget;
  }

  /** Tokens that may still be added. */
  get budget(): number {
    return this.#budget;
  }

  get sequences(): Sequence[] {
    return [...this.#entries.keys()];
  }

  add(sequence: Sequence, entry: BatchEntry): void {
    this.#entries.set(sequence, entry);
    this.#budget -= entry.numTokens;
    const isDue = sequence.numComputedTokens + entry.numTokens === sequence.numTokens;
    if (isDue) for (const hash of entry.filled) this.#completed.add(hash);
  }

  /** Whether the step completes a prompt with this block, so that it can be shared in the next. */
  completes(hash: string): boolean {
    return this.#completed.has(hash);
  }

  /** Notes a preemption; a sequence already in the batch leaves it and gives its tokens back. */
  preempt(sequence: Sequence): void {
    this.preempted.push(sequence.seqId);
    this.#budget += this.#entries.get(sequence)?.numTokens ?? 0;
    this.#entries.delete(sequence);
  }

  /** Tokens that the step computes. */
  get numTokens(): number {
    return [...this.#entries.values()].reduce((sum, { numTokens }) => sum + numTokens, 0);
  }

  /** The blocks that each sequence fills, by their hashes. */
  get filled(): [Sequence, readonly string[]][] {
    return [...this.#entries].map(([sequence, { filled }]) => [sequence, filled]);
  }

  /** Those that the workers do not know yet; to be read before commit(). */
  get started(): StartedSequence[] {
    return this.sequences
      .filter(({ knownToWorker }) => !knownToWorker)
      .map(({ seqId, promptTokenIds, numCachedTokens, loadedFrom }) => ({
        seqId,
        promptLength: promptTokenIds.length,
        numCachedTokens: numCachedTokens ?? 0,
        ...(loadedFrom.length > 0 ? { loadedBlocks: countTiers(loadedFrom) } : {}),
      }));
  }

  /** The message for the workers, from the sequences' state before this step. */
  toMessage(stepId: number, finished: readonly number[], store: StoreWork | null): StepMessage {
    const entries = [...this.#entries];
    return {
      type: "step",
      stepId,
      newSequences: entries
        .filter(([sequence]) => !sequence.knownToWorker)
        .map(([{ seqId, promptTokenIds, sampling }]) => ({ seqId, promptTokenIds, sampling })),
      scheduled: entries.map(([sequence, entry]) => ({
        seqId: sequence.seqId,
        numComputedTokens: sequence.numComputedTokens,
        numTokens: entry.numTokens,
        newBlockIds: Int32Array.from(entry.newBlockIds),
        resetBlockTable: entry.resetBlockTable,
      })),
      finished: Int32Array.from(finished),
      store,
    };
  }

  /** Counts the batch's tokens as computed: called once, when the message has been made. */
  commit(): void {
    for (const [sequence, entry] of this.#entries) {
      sequence.numComputedTokens += entry.numTokens;
      sequence.knownToWorker = true;
    }
  }
}

function countTiers(tiers: readonly StoreTier[]): Record<StoreTier, number> {
  const counts = { memory: 0, file: 0 };
  for (const tier of tiers) counts[tier] += 1;
  return counts;
}
