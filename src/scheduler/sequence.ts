import type { WorkerSampling } from "../messages/index.js";

/** A sequence as it is handed to the scheduler. */
export interface SequenceInput {
  /** Unique for the life of the scheduler. */
  seqId: number;
  /** int32 [prompt tokens], at least one; may be shared between sequences, never written. */
  promptTokenIds: Int32Array;
  sampling: WorkerSampling;
  /** Lower first under the priority policy. */
  priority: number;
}

/**
 * Waiting: not in the batch, holds no blocks (new, or preempted). Running: in the batch. Finished:
 * ended or aborted, holds no blocks, never scheduled again.
 */
export type SequenceStatus = "waiting" | "running" | "finished";

/** What the scheduler knows of one sequence. */
export class Sequence {
  readonly seqId: number;
  readonly promptTokenIds: Int32Array;
  readonly sampling: WorkerSampling;
  readonly priority: number;
  /** Place in the order of arrival. */
  readonly arrival: number;
  readonly outputTokenIds: number[] = [];
  /** Block i holds the keys and values of tokens [i * blockSize, (i + 1) * blockSize). */
  readonly blockTable: number[] = [];
  status: SequenceStatus = "waiting";
  /** Tokens whose keys and values are in the arena once the step in flight has returned. */
  numComputedTokens = 0;
  /** The worker has its prompt and must be told when it ends. */
  knownToWorker = false;

  constructor(input: SequenceInput, arrival: number) {
    this.seqId = input.seqId;
    this.promptTokenIds = input.promptTokenIds;
    this.sampling = input.sampling;
    this.priority = input.priority;
    this.arrival = arrival;
  }

  /** Prompt and output tokens known so far. */
  get numTokens(): number {
    return this.promptTokenIds.length + this.outputTokenIds.length;
  }

  /** Whether the step in flight computes the last known token, so that a new one is sampled. */
  get isDue(): boolean {
    return this.numComputedTokens === this.numTokens;
  }
}
