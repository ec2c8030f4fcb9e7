import { describe, expect, it } from "vitest";
import { BlockHasher, Connector } from "../../../src/kvcache/index.js";
import {
  defaultSamplingParams,
  type StepMessage,
  type StoreNews,
} from "../../../src/messages/index.js";
import { Scheduler } from "../../../src/scheduler/index.js";
import { testStoreConfig } from "../../helpers/engine-config.js";

const BLOCK = 4;
const hasher = new BlockHasher({ blockSize: BLOCK, seed: null });

/** A scheduler of ten blocks over a store that has every block, and the steps that it plans. */
function openLab() {
  const connector = new Connector(testStoreConfig, { bytesPerBlock: 1000, blockSize: BLOCK });
  const config = {
    blockSize: BLOCK,
    numBlocks: 10,
    maxModelLen: 40,
    maxNumSeqs: 4,
    maxNumBatchedTokens: 40,
    enableChunkedPrefill: true,
    longPrefillTokenThreshold: 0,
    policy: "fcfs" as const,
    maxNumQueuedRequests: 10,
  };
  const scheduler = new Scheduler(config, { connector, sharesArena: false });
  const hashesOf = (seqId: number, length: number) =>
    hasher.chain(tokensOf(seqId, length), null).hashes;
  const tokensOf = (seqId: number, length: number) => new Int32Array(length).fill(seqId);
  return {
    scheduler,
    hashesOf,
    add(seqId: number, length: number, maxTokens: number) {
      const promptTokenIds = tokensOf(seqId, length);
      const sampling = { ...defaultSamplingParams, maxTokens };
      const blockHashes = hasher.chain(promptTokenIds, null);
      scheduler.add([{ seqId, promptTokenIds, sampling, priority: 0, blockHashes }]);
    },
    /** One step, whose look-ups find all but blocks of sequence 0, and whose loads are good. */
    step(): StepMessage {
      const { step } = scheduler.schedule();
      const unknown = new Set(hashesOf(0, 40));
      const news: StoreNews = {
        found: (step.store?.lookups ?? []).map(({ taskId, keys }) => ({
          taskId,
          tiers: keys.map((key) => (unknown.has(key) ? null : "memory")),
        })),
        loaded: (step.store?.loads ?? []).map(({ taskId, keys }) => ({
          taskId,
          statuses: keys.map(() => "ok"),
          durationMs: 1,
        })),
        notStored: [],
      };
      scheduler.update({
        type: "stepResult",
        stepId: step.stepId,
        sampled: step.scheduled.map(({ seqId }) => ({ seqId, tokenId: 3, logprobs: null })),
        failed: [],
        promptLogprobs: [],
        durationMs: 1,
        store: news,
      });
      return step;
    },
  };
}

/** Sequence 0 holds most blocks; 1 was found in the store and waits for room. */
function openBlockedLab() {
  const lab = openLab();
  lab.add(0, 28, 5);
  lab.step();
  lab.step();
  lab.add(1, 17, 1);
  lab.step();
  return lab;
}

describe("what was found for a sequence that has to wait", () => {
  it("is pinned until it was loaded", () => {
    const lab = openBlockedLab();
    const { pins } = lab.step().store!;
    expect(pins).toEqual([{ pinId: expect.any(Number), keys: lab.hashesOf(1, 17) }]);
    expect(pins[0]!.keys).toHaveLength(4);
    let step = lab.step();
    while ((step.store?.loads ?? []).length === 0) {
      expect([step.store?.pins ?? [], step.store?.unpins ?? []]).toEqual([[], []]);
      step = lab.step();
    }
    expect(step.store!.unpins).toEqual([]);
    expect(lab.step().store!.unpins).toEqual([pins[0]!.pinId]);
  });

  it("is let go when it is aborted, in a step of its own if need be", () => {
    const lab = openBlockedLab();
    const { pins } = lab.step().store!;
    lab.scheduler.abort(0);
    lab.scheduler.abort(1);
    expect(lab.scheduler.hasWork()).toBe(true);
    const step = lab.step();
    expect(step.scheduled).toEqual([]);
    expect(step.store!.unpins).toEqual([pins[0]!.pinId]);
    expect(lab.scheduler.hasWork()).toBe(false);
  });

  it("is not pinned when it is loaded at once", () => {
    const lab = openLab();
    lab.add(1, 17, 1);
    const steps: StepMessage[] = [];
    while (lab.scheduler.hasWork()) steps.push(lab.step());
    expect(steps.flatMap(({ store }) => store?.loads ?? [])).toHaveLength(1);
    expect(steps.flatMap(({ store }) => store?.pins ?? [])).toEqual([]);
  });

  it("is pinned up to what the arena holds, in the order of the queue", () => {
    const lab = openLab();
    lab.add(0, 28, 8);
    lab.step();
    lab.step();
    for (const seqId of [1, 2, 3, 4]) lab.add(seqId, 17, 1);
    const steps = Array.from({ length: 3 }, () => lab.step());
    const pins = steps.flatMap(({ store }) => store?.pins ?? []);
    expect(pins.map(({ keys }) => keys)).toEqual([lab.hashesOf(1, 17), lab.hashesOf(2, 17)]);
  });
});
