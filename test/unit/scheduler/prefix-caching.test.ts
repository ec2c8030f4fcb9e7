import { describe, expect, it } from "vitest";
import { BlockHasher } from "../../../src/kvcache/index.js";
import type { WorkerSampling } from "../../../src/messages/index.js";
import { Scheduler, type SequenceInput } from "../../../src/scheduler/index.js";
import {
  PromptMaker,
  randomConfig,
  randomSequence,
  seededRandom,
  VOCAB_SIZE,
} from "./random-workload.js";
import { makeInput, Scenario, summarize } from "./scenario.js";
import { SimulatedWorker } from "./simulated-worker.js";

const BLOCK = 4;
const hasher = new BlockHasher({ blockSize: BLOCK, seed: null });

/** A sequence that uses the cache; prompts of `makeInput` begin alike. */
function cached(
  seqId: number,
  promptLength: number,
  sampling: Partial<WorkerSampling> = {},
  options: { salt?: string; priority?: number } = {},
): SequenceInput {
  const input = makeInput(seqId, promptLength, { maxTokens: 1, ...sampling }, options.priority);
  return { ...input, blockHashes: hasher.chain(input.promptTokenIds, options.salt ?? null) };
}

/** As `cached`, with a prompt that differs from token `from` on. */
function differing(seqId: number, promptLength: number, from: number): SequenceInput {
  const input = cached(seqId, promptLength);
  const promptTokenIds = input.promptTokenIds.map((id, i) => (i < from ? id : id + 1));
  return { ...input, promptTokenIds, blockHashes: hasher.chain(promptTokenIds, null) };
}

describe("a prefix that was computed before", () => {
  it("is not computed again, its blocks are shared", () => {
    const scenario = new Scenario().add(cached(1, 10));
    const first = scenario.schedule();
    expect(summarize(first)).toBe("1:0+10!");
    expect([...first.scheduled[0]!.newBlockIds]).toEqual([0, 1, 2]);
    scenario.answer();
    scenario.add(cached(2, 10), differing(3, 10, 5));
    const second = scenario.schedule();
    expect(summarize(second)).toBe("2:8+2! 3:4+6!");
    expect([...second.scheduled[0]!.newBlockIds].slice(0, 2)).toEqual([0, 1]);
    expect([...second.scheduled[1]!.newBlockIds].slice(0, 1)).toEqual([0]);
    expect(scenario.scheduler.stats().usedBlocks).toBe(5);
    expect(scenario.started).toEqual([
      { seqId: 2, promptLength: 10, numCachedTokens: 8 },
      { seqId: 3, promptLength: 10, numCachedTokens: 4 },
    ]);
  });

  it.each([
    [8, "2:4+4!"],
    [9, "2:8+1!"],
    [4, "2:0+4!"],
    [5, "2:4+1!"],
  ])("of %i tokens leaves the last one to compute", (length, expected) => {
    const scenario = new Scenario().add(cached(1, length));
    scenario.step();
    scenario.add(cached(2, length));
    expect(scenario.step()).toBe(expected);
  });

  it("is not found by other salts, without the cache, or when the prompt is to be scored", () => {
    const scenario = new Scenario().add(cached(1, 9, {}, { salt: "a" }));
    scenario.step();
    scenario.add(
      cached(2, 9, {}, { salt: "b" }),
      makeInput(3, 9, { maxTokens: 1 }),
      cached(4, 9, { promptLogprobs: 0 }, { salt: "a" }),
      cached(5, 9, {}, { salt: "a" }),
    );
    expect(scenario.step()).toBe("2:0+9! 3:0+9! 4:0+9! 5:8+1!");
  });

  it("counts generated blocks too", () => {
    const scenario = new Scenario().add(cached(1, 6, { maxTokens: 4 }));
    for (let i = 0; i < 4; i++) scenario.step(77);
    // 6 + 3 tokens were computed: the last one sampled never was.
    const promptTokenIds = Int32Array.from([...cached(2, 6).promptTokenIds, 77, 77, 77, 77, 5]);
    const blockHashes = hasher.chain(promptTokenIds, null);
    scenario.add({ ...makeInput(2, 11, { maxTokens: 1 }), promptTokenIds, blockHashes });
    expect(scenario.step()).toBe("2:8+3!");
  });

  it("is found by a preempted sequence, which does not count as a new hit", () => {
    const scenario = new Scenario({ numBlocks: 6, maxModelLen: 21 }).add(
      cached(1, 9, { maxTokens: 4 }),
      { ...differing(2, 10, 0), sampling: makeInput(2, 1, { maxTokens: 9 }).sampling },
    );
    for (let i = 0; i < 3; i++) scenario.step();
    expect(scenario.step()).toBe("1:11+1");
    expect(scenario.preempted).toEqual([2]);
    expect(scenario.step()).toBe("2:12+1!");
    expect(scenario.started).toEqual([]);
    expect(scenario.scheduler.stats()).toMatchObject({
      prefixCacheQueries: 19,
      prefixCacheHits: 0,
    });
  });
});

describe("a block", () => {
  it("is found only when its step has returned, and never when it is not full", () => {
    const scenario = new Scenario({ maxNumBatchedTokens: 6, longPrefillTokenThreshold: 5 }).add(
      cached(1, 12),
    );
    expect(scenario.step()).toBe("1:0+5!");
    scenario.add(cached(2, 12));
    expect(scenario.step()).toBe("1:5+5 2:4+1!");
    expect(scenario.step()).toBe("1:10+2 2:5+4");
  });

  it("of an aborted sequence is found as far as steps have returned", () => {
    const scenario = new Scenario({ maxNumBatchedTokens: 8 }).add(cached(1, 20));
    scenario.step();
    scenario.schedule();
    scenario.scheduler.abort(1);
    scenario.answer();
    scenario.add(cached(2, 20));
    expect(scenario.step()).toBe("2:8+8!");
  });

  it("of a sequence that failed is found no more, though others hold it", () => {
    const scenario = new Scenario().add(cached(1, 9, { maxTokens: 9 }));
    scenario.step();
    scenario.add(cached(2, 13));
    expect(summarize(scenario.schedule())).toBe("1:9+1 2:8+5!");
    const error = { code: "UCM_ERR_INTERNAL" as const, message: "damaged", param: null };
    scenario.scheduler.update({
      type: "stepResult",
      stepId: 2,
      sampled: [{ seqId: 1, tokenId: 7, logprobs: null }],
      failed: [{ seqId: 2, error }],
      promptLogprobs: [],
      durationMs: 1,
    });
    expect(scenario.scheduler.stats()).toMatchObject({ running: 1, usedBlocks: 3 });
    scenario.scheduler.abort(1);
    scenario.add(cached(3, 13));
    expect(scenario.step()).toBe("3:0+13!");
  });

  it("that hits is not free for the rest of its sequence: admission counts it once", () => {
    const scenario = new Scenario({ numBlocks: 5, maxModelLen: 21 }).add(cached(1, 17));
    scenario.step();
    scenario.add({ ...differing(2, 3, 0), sampling: makeInput(2, 1, { maxTokens: 2 }).sampling });
    scenario.step();
    // Four blocks are free, and all of them are hits: there is none for the fifth.
    scenario.add(cached(3, 20));
    expect(scenario.step()).toBe("2:3+1");
    expect(scenario.step()).toBe("3:16+4!");
    expect(scenario.scheduler.stats().usedBlocks).toBe(0);
  });

  it("at the end of a prefix is reused before those at its start", () => {
    const scenario = new Scenario({ numBlocks: 5, maxModelLen: 21 }).add(cached(1, 17));
    scenario.step();
    scenario.add(differing(2, 8, 0)).step();
    scenario.add(cached(3, 17));
    expect(scenario.step()).toBe("3:12+5!");
  });
});

describe("sequences that arrive together", () => {
  it("compute a common prompt once: the others wait for the step that completes it", () => {
    const scenario = new Scenario({ maxNumBatchedTokens: 8 }).add(
      cached(1, 13, { maxTokens: 2 }),
      cached(2, 13, { maxTokens: 2 }),
      cached(3, 13, { maxTokens: 2 }),
    );
    const steps = Array.from({ length: 3 }, () => scenario.step());
    expect(steps).toEqual(["1:0+8!", "1:8+5", "1:13+1 2:12+1! 3:12+1!"]);
  });

  it("do not wait for a prompt that goes on, nor for a block they could not use", () => {
    const slow = new Scenario({ longPrefillTokenThreshold: 4 }).add(cached(1, 13), cached(2, 13));
    expect(slow.step()).toBe("1:0+4! 2:0+4!");
    const short = new Scenario().add(cached(1, 4), cached(2, 4));
    expect(short.step()).toBe("1:0+4! 2:0+4!");
  });

  it("without chunked prefill need a budget for the tokens that are not cached alone", () => {
    const scenario = new Scenario({
      enableChunkedPrefill: false,
      maxModelLen: 24,
      maxNumBatchedTokens: 24,
    }).add(cached(1, 20));
    scenario.step();
    scenario.add(differing(2, 20, 0), cached(3, 20));
    expect(scenario.step()).toBe("2:0+20! 3:16+4!");
  });
});

describe("the hit rate", () => {
  it("is of the last 1000 sequences, the totals are of all", () => {
    const scenario = new Scenario();
    expect(scenario.scheduler.stats().prefixCacheHitRate).toBe(0);
    for (let seqId = 0; seqId < 1000; seqId++) scenario.add(differing(seqId, 5, 0)).step();
    expect(scenario.scheduler.stats().prefixCacheHitRate).toBeCloseTo((4 * 999) / 5000);
    for (let seqId = 1000; seqId < 1500; seqId++) {
      const input = cached(seqId, 5);
      const promptTokenIds = input.promptTokenIds.map((id) => id + 10 * seqId);
      scenario.add({ ...input, promptTokenIds, blockHashes: hasher.chain(promptTokenIds, null) });
      scenario.step();
    }
    expect(scenario.scheduler.stats()).toMatchObject({
      prefixCacheHitRate: (4 * 500) / 5000,
      prefixCacheQueries: 7500,
      prefixCacheHits: 4 * 999,
    });
  });
});

describe("one after the other in a roomy pool", () => {
  it("random prompts find every block that any of them had before", () => {
    let numHits = 0;
    for (let seed = 1; seed <= 100; seed++) {
      const random = seededRandom(seed);
      const config = { ...randomConfig(random, "fcfs"), numBlocks: 5000, maxNumQueuedRequests: 9 };
      const { blockSize, maxModelLen } = config;
      const scheduler = new Scheduler(config);
      const worker = new SimulatedWorker({ ...config, vocabSize: VOCAB_SIZE });
      const made = {
        prompts: new PromptMaker(random, maxModelLen),
        hasher: new BlockHasher({ blockSize, seed: null }),
      };
      const computed = new Set<string>();
      for (let seqId = 0; seqId < 40; seqId++) {
        const { input } = randomSequence(random, seqId, config, made);
        scheduler.add([input]);
        const { length } = input.promptTokenIds;
        const hashes = input.blockHashes!.hashes.slice(0, Math.floor((length - 1) / blockSize));
        const missing = hashes.findIndex((hash) => !computed.has(hash));
        const isScored = input.sampling.promptLogprobs !== null;
        const expected = isScored ? 0 : (missing === -1 ? hashes.length : missing) * blockSize;
        const started = [];
        while (scheduler.hasWork()) {
          const plan = scheduler.schedule();
          started.push(...plan.started);
          worker.begin(plan.step);
          scheduler.update(worker.finish());
        }
        expect(started).toEqual([{ seqId, promptLength: length, numCachedTokens: expected }]);
        numHits += expected;
        const numComputed = length + worker.outputOf(seqId).length - 1;
        const full = input.blockHashes!.hashes.slice(0, Math.floor(numComputed / blockSize));
        for (const hash of full) computed.add(hash);
      }
    }
    expect(numHits).toBeGreaterThan(5000);
  });
});
