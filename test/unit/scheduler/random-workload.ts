import type { BlockHasher } from "../../../src/kvcache/index.js";
import {
  defaultSamplingParams,
  type StepResultMessage,
  type WorkerSampling,
} from "../../../src/messages/index.js";
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

/**
 * Large enough for any one sequence; half of the pools are so small that blocks run out all the
 * time, half so large that what was cached stays for a while.
 */
export function randomConfig(random: RandomInt, policy: "fcfs" | "priority"): SchedulerConfig {
  const blockSize = random(1, 8);
  const maxModelLen = random(4, 60);
  const smallestPool = Math.ceil((maxModelLen - 1) / blockSize);
  const enableChunkedPrefill = random(0, 3) > 0;
  return {
    blockSize,
    numBlocks: smallestPool + random(0, smallestPool * (random(0, 1) === 0 ? 9 : 1)),
    maxModelLen,
    maxNumSeqs: random(1, 12),
    maxNumBatchedTokens: enableChunkedPrefill ? random(1, 40) : maxModelLen + random(0, 20),
    enableChunkedPrefill,
    longPrefillTokenThreshold: random(0, 2) === 0 ? random(1, 8) : 0,
    policy,
    maxNumQueuedRequests: random(0, 30),
  };
}

/** Prompts that have much in common: with a few texts, and with what was said before. */
export class PromptMaker {
  readonly #random: RandomInt;
  readonly #texts: number[][];

  constructor(random: RandomInt, longest: number) {
    this.#random = random;
    this.#texts = Array.from({ length: 3 }, () => this.#fresh(longest));
  }

  /** Part of a text that is there, then tokens of its own. */
  make(length: number): Int32Array<ArrayBuffer> {
    const text = this.#texts[this.#random(0, this.#texts.length - 1)]!;
    const longest = Math.min(length, text.length);
    const shared = text.slice(0, this.#random(0, 1) === 0 ? longest : this.#random(0, longest));
    return Int32Array.from([...shared, ...this.#fresh(length - shared.length)]);
  }

  /** Later prompts may begin like this one. */
  remember(tokenIds: number[]): void {
    this.#texts.push(tokenIds);
    if (this.#texts.length > 6) this.#texts.splice(3, 1);
  }

  #fresh(length: number): number[] {
    return Array.from({ length }, () => this.#random(0, VOCAB_SIZE - 1));
  }
}

/** A sequence to schedule, and what keeps its blocks apart. */
export interface RandomSequence {
  input: SequenceInput;
  salt: string | null;
}

export function randomSequence(
  random: RandomInt,
  seqId: number,
  { maxModelLen }: SchedulerConfig,
  { prompts, hasher }: { prompts: PromptMaker; hasher: BlockHasher | null },
): RandomSequence {
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
    promptLogprobs: random(0, 9) === 0 ? 0 : null,
  };
  const promptTokenIds = prompts.make(promptLength);
  const salt = [null, null, null, "a", "b"][random(0, 4)]!;
  const blockHashes = hasher?.chain(promptTokenIds, salt) ?? null;
  return { salt, input: { seqId, promptTokenIds, sampling, priority: random(-2, 2), blockHashes } };
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

/** Now and then the worker finds no token for a sequence: for one in `oneIn`. */
export function failSome(
  random: RandomInt,
  oneIn: number,
  result: StepResultMessage,
): StepResultMessage {
  const error = { code: "UCM_ERR_INTERNAL" as const, message: "damaged", param: null };
  const failed = result.sampled.filter(() => random(0, oneIn - 1) === 0);
  return {
    ...result,
    sampled: result.sampled.filter((sample) => !failed.includes(sample)),
    failed: failed.map(({ seqId }) => ({ seqId, error })),
  };
}

/** Runs a trial for each seed from 1 to `count`, yielding it when it has run; what fails names its seed. */
export function* runTrials<Trial extends { run(): void }>(
  count: number,
  makeTrial: (seed: number) => Trial,
): Generator<Trial> {
  for (let seed = 1; seed <= count; seed++) {
    const trial = makeTrial(seed);
    try {
      trial.run();
    } catch (error) {
      throw new Error(`Trial with seed ${seed} failed`, { cause: error });
    }
    yield trial;
  }
}
