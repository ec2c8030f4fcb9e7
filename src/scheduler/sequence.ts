import type { StoreTier, WorkerSampling } from "../messages/index.js";
import type { ExternalPrefixState } from "./external-prefix.js";
import type { SparseState } from "./sparse-sequences.js";

/**
 * Names of what the full blocks of a sequence hold: two blocks with the same hash hold the same keys
 * and values. It covers all tokens known of the sequence.
 */
export interface BlockHashes {
  /** One per full block, in order. */
  readonly hashes: readonly string[];
  /** Adds the next token of the sequence. */
  push(tokenId: number): void;
}

/** A sequence as it is handed to the scheduler. */
export interface SequenceInput {
  /** Unique for the life of the scheduler. */
  seqId: number;
  /** int32 [prompt tokens], at least one; may be shared between sequences, never written. */
  promptTokenIds: Int32Array;
  sampling: WorkerSampling;
  /** Lower first under the priority policy. */
  priority: number;
  /** Of the prompt, for this sequence alone to extend; null keeps it away from the prefix cache. */
  blockHashes: BlockHashes | null;
}

/**
 * Waiting: not in the batch; holds no blocks (new, or preempted) unless its prefix was loaded.
 * Loading: holds the blocks that its prefix is loaded into, waits for that. Running: in the batch.
 * Finished: ended or aborted, never scheduled again; holds no blocks but those still being loaded.
 */
export type SequenceStatus = "waiting" | "loading" | "running" | "finished";

/** What the scheduler knows of one sequence. */
export class Sequence {
  readonly seqId: number;
  readonly promptTokenIds: Int32Array;
  readonly sampling: WorkerSampling;
  readonly priority: number;
  readonly blockHashes: BlockHashes | null;
  /** Place in the order of arrival. */
  readonly arrival: number;
  readonly outputTokenIds: number[] = [];
  /**
   * Block i holds the keys and values of tokens [i * blockSize, (i + 1) * blockSize); under sparse
   * attention the table lacks blocks of the prompt, and others hold what the worker chose.
   */
  readonly blockTable: number[] = [];
  /** Blocks at the start of the table that the prefix index knows. */
  numIndexedBlocks = 0;
  status: SequenceStatus = "waiting";
  /** Tokens whose keys and values are in the arena once the step in flight has returned. */
  numComputedTokens = 0;
  /** Tokens found in the arena or loaded when it was first scheduled, null before that. */
  numCachedTokens: number | null = null;
  external: ExternalPrefixState = { kind: "unknown" };
  sparse: SparseState = { kind: "outside" };
  /** Tokens known when the store was last asked. */
  numTokensAsked = 0;
  /** Where the loaded blocks that it holds came from. */
  loadedFrom: readonly StoreTier[] = [];
  /** The worker has its prompt and must be told when it ends. */
  knownToWorker = false;

  constructor(input: SequenceInput, arrival: number) {
    this.seqId = input.seqId;
    this.promptTokenIds = input.promptTokenIds;
    this.sampling = input.sampling;
    this.priority = input.priority;
    this.blockHashes = input.blockHashes;
    this.arrival = arrival;
  }

  /** Adds a sampled token. */
  append(tokenId: number): void {
    this.outputTokenIds.push(tokenId);
    this.blockHashes?.push(tokenId);
  }

  /** Prompt and output tokens known so far. */
  get numTokens(): number {
    return this.promptTokenIds.length + this.outputTokenIds.length;
  }

  /** Tokens known and not computed. */
  get numRemaining(): number {
    return this.numTokens - this.numComputedTokens;
  }

  get holdsBlocks(): boolean {
    return this.blockTable.length > 0;
  }

  /** Whether the step in flight computes the last known token, so that a new one is sampled. */
  get isDue(): boolean {
    return this.numComputedTokens === this.numTokens;
  }
}
