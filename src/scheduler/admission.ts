import type { BlockManager, CachedPrefix } from "./block-manager.js";
import type { ExternalPrefixes } from "./external-prefix.js";
import type { Sequence } from "./sequence.js";
import type { StepBatch } from "./step-batch.js";
import type { SchedulerConfig } from "./types.js";
import type { WaitingQueue } from "./waiting-queue.js";

/**
 * Admitted: it holds its prefix, and there is room for the rest. Passed: it waits for the store, and
 * those after it need not wait for it. Blocked: there is no room, or a step is worth waiting for.
 */
export type Admission = "admitted" | "passed" | "blocked";

/** Gives waiting sequences their prefix, from the arena or by starting to load it. */
export class Admissions {
  readonly #config: SchedulerConfig;
  readonly #blocks: BlockManager;
  readonly #waiting: WaitingQueue;
  readonly #external: ExternalPrefixes | null;

  constructor(
    config: SchedulerConfig,
    parts: { blocks: BlockManager; waiting: WaitingQueue; external: ExternalPrefixes | null },
  ) {
    this.#config = config;
    this.#blocks = parts.blocks;
    this.#waiting = parts.waiting;
    this.#external = parts.external;
  }

  /** Tries to admit a sequence that holds no blocks, beside `numRunning` others. */
  admit(sequence: Sequence, batch: StepBatch, numRunning: number): Admission {
    const { blockSize, enableChunkedPrefill } = this.#config;
    const prefix = this.#blocks.findPrefix(sequence);
    // A block that this step is about to fill is worth a step of waiting: requests with a common
    // prefix that arrive together, and the n sequences of one request, compute it once.
    if (prefix.missing !== null && batch.completes(prefix.missing)) return "blocked";
    const numToLoad = this.#external === null ? 0 : this.#external.consider(sequence, prefix);
    if (numToLoad === null) return "passed";
    if (numToLoad > 0) return this.#load(sequence, prefix, { numToLoad, numRunning });
    const numUncached = sequence.numTokens - prefix.blockIds.length * blockSize;
    if (!enableChunkedPrefill && numUncached > batch.budget) return "blocked";
    return this.#blocks.admit(sequence, prefix) ? "admitted" : "blocked";
  }

  /** A sequence that loads holds the blocks of all that is known of it, so that it can go on. */
  #load(
    sequence: Sequence,
    prefix: CachedPrefix,
    { numToLoad, numRunning }: { numToLoad: number; numRunning: number },
  ): Admission {
    const numHolders = this.#waiting.inOrder().filter((other) => other.holdsBlocks).length;
    if (numRunning + numHolders >= this.#config.maxNumSeqs) return "blocked";
    if (!this.#blocks.admit(sequence, prefix)) return "blocked";
    this.#blocks.reserve(sequence, sequence.numRemaining);
    this.#external!.start(sequence, numToLoad);
    return "passed";
  }
}
