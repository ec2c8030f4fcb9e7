import type { Sequence } from "./sequence.js";
import type { SchedulerConfig } from "./types.js";

/**
 * Tokens computed behind a load at most: what is lost when the load brings a bad block, and how long
 * a request that arrives meanwhile may have to wait.
 */
const FOLLOW_TOKENS = 512;

/**
 * The tail of a sequence whose prefix is being loaded, computed in the same step, in layer order
 * behind the load. It counts when the load has brought every block; else it never was.
 */
export interface FollowedLoad {
  sequence: Sequence;
  taskId: number;
  /** First token after what the load brings. */
  begin: number;
  numTokens: number;
}

/** How to follow the load of a sequence; null for one that must wait for the load to end. */
export function followLoad(
  { sequence, taskId, begin }: Omit<FollowedLoad, "numTokens">,
  { enableChunkedPrefill, maxNumBatchedTokens, longPrefillTokenThreshold }: SchedulerConfig,
): FollowedLoad | null {
  // What is sampled in vain is forgotten with all that the workers know of the sequence.
  if (sequence.knownToWorker || sequence.status !== "loading") return null;
  const rest = sequence.numTokens - begin;
  const threshold = longPrefillTokenThreshold > 0 ? longPrefillTokenThreshold : rest;
  const numTokens = Math.min(rest, threshold, FOLLOW_TOKENS, maxNumBatchedTokens);
  if (!enableChunkedPrefill && numTokens < rest) return null;
  return { sequence, taskId, begin, numTokens };
}

/** Whether the load of a followed sequence is over and good, so that its tail counts. */
export function isGood({ sequence, begin }: FollowedLoad): boolean {
  return sequence.status === "waiting" && sequence.numComputedTokens === begin;
}
