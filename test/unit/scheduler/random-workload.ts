import { defaultSamplingParams, type WorkerSampling } from "../../../src/messages/index.js";
import type { SchedulerConfig, SequenceInput } from "../../../src/scheduler/index.js";
import { nextToken } from "./simulated-worker.js";

export const VOCAB_SIZE = 50;

/** Uniform integers in [low, high], the same for the same seed (mulberry32). */
export type RandomInt = (low: number, high: number) => number;

export function seededRandom(seed: number): RandomInt {
  let state = seed >>> 0;
  return (low, high) => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return low + (((mixed ^ (mixed >>> 14)) >>> 0) % (high - low + 1));
  };
}

/** Small enough that blocks run out all the time, large enough for any one sequence. */
export function randomConfig(random: RandomInt, policy: "fcfs" | "priority"): SchedulerConfig {
  const blockSize = random(1, 8);
  const maxModelLen = random(4, 60);
  const smallestPool = Math.ceil((maxModelLen - 1) / blockSize);
  const enableChunkedPrefill = random(0, 3) > 0;
  return {
    blockSize,
    numBlocks: smallestPool + random(0, smallestPool),
    maxModelLen,
    maxNumSeqs: random(1, 12),
    maxNumBatchedTokens: enableChunkedPrefill ? random(1, 40) : maxModelLen + random(0, 20),
    enableChunkedPrefill,
    longPrefillTokenThreshold: random(0, 2) === 0 ? random(1, 8) : 0,
    policy,
    maxNumQueuedRequests: random(0, 30),
  };
}

export function randomInput(
  random: RandomInt,
  seqId: number,
  { maxModelLen }: SchedulerConfig,
): SequenceInput {
  const longestPrompt = random(0, 1) === 0 ? maxModelLen - 1 : Math.ceil(maxModelLen / 4);
  const promptLength = random(1, longestPrompt);
  const maxTokens = random(1, maxModelLen - promptLength);
  const sampling: WorkerSampling = {
    ...defaultSamplingParams,
    maxTokens,
    minTokens: random(0, 2) === 0 ? random(0, maxTokens) : 0,
    eosTokenIds: [0, 1].slice(0, random(0, 2)),
    stopTokenIds: random(0, 3) === 0 ? [random(0, 5)] : [],
    ignoreEos: random(0, 1) === 0,
  };
  return {
    seqId,
    promptTokenIds: Int32Array.from({ length: promptLength }, () => random(0, VOCAB_SIZE - 1)),
    sampling,
    priority: random(-2, 2),
  };
}

/** What a sequence must produce, whatever shares the machine with it: written apart from the code. */
export function expectedOutput({ promptTokenIds, sampling }: SequenceInput): {
  tokenIds: number[];
  finish: { reason: string; stopReason: number | null };
} {
  const known = [...promptTokenIds];
  const tokenIds: number[] = [];
  for (;;) {
    const tokenId = nextToken(known, VOCAB_SIZE);
    known.push(tokenId);
    tokenIds.push(tokenId);
    const mayStop = tokenIds.length >= sampling.minTokens;
    const isEos = sampling.eosTokenIds.includes(tokenId) && !sampling.ignoreEos;
    if (mayStop && isEos) return { tokenIds, finish: { reason: "stop", stopReason: null } };
    if (mayStop && sampling.stopTokenIds.includes(tokenId)) {
      return { tokenIds, finish: { reason: "stop", stopReason: tokenId } };
    }
    if (tokenIds.length === sampling.maxTokens) {
      return { tokenIds, finish: { reason: "length", stopReason: null } };
    }
  }
}
