import type {
  ScheduledSequence,
  SparseWork,
  StepMessage,
  StoreTier,
  StoreWork,
} from "../messages/index.js";
import type { FollowedLoad } from "./load-follower.js";
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
  #followed: FollowedLoad | null = null;
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

  /** Lets the step compute behind a load, which nothing else may then be in. */
  follow(followed: FollowedLoad): void {
    this.#followed = followed;
  }

  get followed(): FollowedLoad | null {
    return this.#followed;
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
    return this.sequences.filter(({ knownToWorker }) => !knownToWorker).map(startedSequence);
  }

  /** The message for the workers, from the sequences' state before this step. */
  toMessage(
    stepId: number,
    finished: readonly number[],
    work: { store: StoreWork | null; sparse: SparseWork | null },
  ): StepMessage {
    const scheduled = [...this.#entries].map(([sequence, entry]) => ({
      seqId: sequence.seqId,
      numComputedTokens: sequence.numComputedTokens,
      numTokens: entry.numTokens,
      newBlockIds: Int32Array.from(entry.newBlockIds),
      resetBlockTable: entry.resetBlockTable,
    }));
    const members = this.#followed === null ? [] : [this.#followed.sequence];
    return {
      type: "step",
      stepId,
      newSequences: [...this.sequences, ...members]
        .filter((sequence) => !sequence.knownToWorker)
        .map(({ seqId, promptTokenIds, sampling }) => ({ seqId, promptTokenIds, sampling })),
      scheduled:
        this.#followed === null ? scheduled : [...scheduled, followedEntry(this.#followed)],
      finished: Int32Array.from(finished),
      ...work,
    };
  }

  /** Counts the batch's tokens as computed: called once, when the message has been made. */
  commit(): void {
    for (const [sequence, entry] of this.#entries) {
      sequence.numComputedTokens += entry.numTokens;
      sequence.knownToWorker = true;
    }
    if (this.#followed !== null) this.#followed.sequence.knownToWorker = true;
  }
}

/** What is to be told of a sequence that has started. */
export function startedSequence(sequence: Sequence): StartedSequence {
  const { seqId, promptTokenIds, numCachedTokens, loadedFrom } = sequence;
  return {
    seqId,
    promptLength: promptTokenIds.length,
    numCachedTokens: numCachedTokens ?? 0,
    ...(loadedFrom.length > 0 ? { loadedBlocks: countTiers(loadedFrom) } : {}),
  };
}

function followedEntry({ sequence, taskId, begin, numTokens }: FollowedLoad): ScheduledSequence {
  return {
    seqId: sequence.seqId,
    numComputedTokens: begin,
    numTokens,
    newBlockIds: Int32Array.from(sequence.blockTable),
    resetBlockTable: true,
    awaitsLoad: taskId,
  };
}

function countTiers(tiers: readonly StoreTier[]): Record<StoreTier, number> {
  const counts = { memory: 0, file: 0 };
  for (const tier of tiers) counts[tier] += 1;
  return counts;
}
