import type { LogprobRows, StepMessage, StoreTier } from "../messages/index.js";
import type { SchedulingPolicy } from "./policy.js";
import type { SparseStats } from "./sparse-sequences.js";
import type { SequenceFinish } from "./stop-check.js";

export interface SchedulerConfig {
  /** Tokens per block. */
  readonly blockSize: number;
  readonly numBlocks: number;
  /** Tokens of prompt and output together. */
  readonly maxModelLen: number;
  readonly maxNumSeqs: number;
  readonly maxNumBatchedTokens: number;
  readonly enableChunkedPrefill: boolean;
  /** Prefill tokens of one sequence per step at most; 0 is no limit. */
  readonly longPrefillTokenThreshold: number;
  readonly policy: SchedulingPolicy;
  /** Sequences that may wait when maxNumSeqs others are there. */
  readonly maxNumQueuedRequests: number;
}

/** A sequence that is scheduled for the first time. */
export interface StartedSequence {
  seqId: number;
  promptLength: number;
  /** Prompt tokens whose keys and values were found, in the arena or the store. */
  numCachedTokens: number;
  /** Blocks of these that were loaded from the store's memory and its files; left out without any. */
  loadedBlocks?: Readonly<Record<StoreTier, number>>;
}

/** One step, and what scheduling it did to the sequences. */
export interface SchedulerPlan {
  step: StepMessage;
  /** Sequences that lost their blocks and wait again. */
  preempted: number[];
  /** Sequences that are scheduled for the first time. */
  started: StartedSequence[];
}

/** A new token of a sequence, and whether it was the last. */
export interface SequenceEvent {
  seqId: number;
  tokenId: number;
  /** One position, when asked for. */
  logprobs: LogprobRows | null;
  finish: SequenceFinish | null;
}

export interface SchedulerStats {
  running: number;
  waiting: number;
  usedBlocks: number;
  numBlocks: number;
  /** Preemptions since the start. */
  numPreemptions: number;
  /** Tokens of sequences looked up in the prefix cache since the start, and those found there. */
  prefixCacheQueries: number;
  prefixCacheHits: number;
  /** Share found of the last 1000 sequences' tokens, 0 to 1. */
  prefixCacheHitRate: number;
  /** The same of the tokens that the arena lacked, in the store; null without one. */
  externalPrefixCache: PrefixCacheSummary | null;
  /** Null when attention is dense. */
  sparse: SparseStats | null;
}

export interface PrefixCacheSummary {
  /** Tokens since the start. */
  queries: number;
  hits: number;
  /** Share found of the last 1000 sequences' tokens, 0 to 1. */
  hitRate: number;
}
