import type { StepMessage } from "../messages/index.js";
import type { Sequence } from "./sequence.js";

interface BatchEntry {
  numTokens: number;
  newBlockIds: number[];
  resetBlockTable: boolean;
}

/** The step that is being put together: what each sequence does, and the token budget left. */
export class StepBatch {
  readonly preempted: number[] = [];
  readonly #entries = new Map<Sequence, BatchEntry>();
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
  }

  /** Notes a preemption; a sequence already in the batch leaves it and gives its tokens back. */
  preempt(sequence: Sequence): void {
    this.preempted.push(sequence.seqId);
    this.#budget += this.#entries.get(sequence)?.numTokens ?? 0;
    this.#entries.delete(sequence);
  }

  /** The message for the workers, from the sequences' state before this step. */
  toMessage(stepId: number, finished: readonly number[]): StepMessage {
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
