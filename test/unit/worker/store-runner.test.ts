import { stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { describe, expect, it } from "vitest";
import type { StepMessage, StepResultMessage, StoreWork } from "../../../src/messages/index.js";
import { type BlockStore, StoreRunner } from "../../../src/worker/store-runner.js";

/** A store whose answers a test gives by hand. */
function heldStore() {
  const calls: string[] = [];
  const answers: (() => void)[] = [];
  const hold = <T>(call: string, answer: T) => {
    calls.push(call);
    return new Promise<T>((resolve) => {
      answers.push(() => resolve(answer));
    });
  };
  const store: BlockStore = {
    numLayers: 3,
    lookup: (keys) =>
      hold(
        `lookup ${keys}`,
        keys.map(() => "file" as const),
      ),
    load: (keys, ids) =>
      hold(
        `load ${keys} ${ids}`,
        keys.map(() => "ok" as const),
      ),
    waitForLayers: () => true,
    dump: (keys, ids) =>
      hold(
        `dump ${keys} ${ids}`,
        keys.map((key) => key !== "bad"),
      ),
    pin: (keys) =>
      hold(
        `pin ${keys}`,
        keys.map((key) => key !== "bad"),
      ),
    unpin: (keys) => void calls.push(`unpin ${keys}`),
    forget: async (keys) => void calls.push(`forget ${keys}`),
    close: async () => undefined,
  };
  return { store, calls, answers };
}

function stepOf(work: Partial<StoreWork>, seqIds: number[] = []): StepMessage {
  return {
    type: "step",
    stepId: 1,
    newSequences: [],
    scheduled: seqIds.map((seqId) => ({
      seqId,
      numComputedTokens: 0,
      numTokens: 1,
      newBlockIds: Int32Array.of(),
      resetBlockTable: false,
    })),
    finished: Int32Array.of(),
    store: { lookups: [], loads: [], dumps: [], forgets: [], pins: [], unpins: [], ...work },
  };
}

/** A step of sequence 5 alone, behind load 7. */
function behindLoad(work: Partial<StoreWork>): StepMessage {
  const step = stepOf(work, [5]);
  return { ...step, scheduled: [{ ...step.scheduled[0]!, awaitsLoad: 7 }] };
}

const error = { code: "UCM_ERR_INTERNAL" as const, message: "", param: null };
const computed = (failed: number[] = []) => {
  const result: StepResultMessage = {
    type: "stepResult",
    stepId: 1,
    sampled: [],
    failed: failed.map((seqId) => ({ seqId, error })),
    promptLogprobs: [],
    durationMs: 1,
  };
  return async () => result;
};

describe("the store work of a step", () => {
  it("starts before the computing and is reported when it is done", async () => {
    const { store, calls, answers } = heldStore();
    const runner = new StoreRunner(store);
    const work = {
      lookups: [{ taskId: 1, keys: ["a", "b"] }],
      loads: [{ taskId: 2, keys: ["c"], blockIds: Int32Array.of(4) }],
    };
    const first = await runner.run(stepOf(work, [5]), async () => {
      expect(calls).toEqual(["lookup a,b", "load c 4"]);
      return computed()();
    });
    expect(first.store).toBeNull();
    answers[1]!();
    const second = await runner.run(stepOf({}, [5]), computed());
    // It went on beside computing, so that its time says nothing.
    expect(second.store).toEqual({
      found: [],
      loaded: [{ taskId: 2, statuses: ["ok"], durationMs: null }],
      notStored: [],
    });
    answers[0]!();
    const third = await runner.run(stepOf({}, [5]), computed());
    expect(third.store!.found).toEqual([{ taskId: 1, tiers: ["file", "file"] }]);
  });

  it("is waited for by a step without tokens, for a moment", async () => {
    const { store, answers } = heldStore();
    const runner = new StoreRunner(store);
    const loads = [{ taskId: 1, keys: ["a"], blockIds: Int32Array.of(0) }];
    const begun = performance.now();
    expect((await runner.run(stepOf({ loads }), computed())).store).toBeNull();
    expect(performance.now() - begun).toBeGreaterThan(10);
    setTimeout(answers[0]!, 2);
    const { store: news } = await runner.run(stepOf({}), computed());
    expect(news!.loaded[0]).toMatchObject({ taskId: 1, statuses: ["ok"] });
    expect(news!.loaded[0]!.durationMs).toBeGreaterThan(10);
    expect((await runner.run(stepOf({}), computed())).store).toBeNull();
  });

  it("is followed by attention in layer order, and its news comes with the step's result", async () => {
    const { store, calls, answers } = heldStore();
    let ready = 0;
    const following: BlockStore = {
      ...store,
      waitForLayers: (progress, layers) => {
        calls.push(`layers ${layers} of ${progress.length}`);
        ready = layers;
        progress[0] = layers;
        return true;
      },
    };
    const runner = new StoreRunner(following);
    const loads = [{ taskId: 7, keys: ["a"], blockIds: Int32Array.of(0) }];
    const begun = performance.now();
    const { store: news } = await runner.run(behindLoad({ loads }), async (_, beforeLayer) => {
      for (const layer of [0, 1, 2]) {
        beforeLayer!(layer);
        expect(ready).toBe(layer + 1);
      }
      setTimeout(answers[0]!, 30);
      return computed()();
    });
    expect(calls).toEqual(["load a 0", "layers 1 of 1", "layers 2 of 1", "layers 3 of 1"]);
    expect(news!.loaded).toEqual([{ taskId: 7, statuses: ["ok"], durationMs: expect.any(Number) }]);
    // All layers were there well before the step noticed its end.
    expect(news!.loaded[0]!.durationMs).toBeLessThan(performance.now() - begun - 20);
    // It is over: there is nothing to wait for.
    await runner.run(behindLoad({}), async (_, beforeLayer) => {
      expect(beforeLayer).toBeNull();
      return computed()();
    });
  });

  it("is waited for by a step behind it for a while only, and then told of later", async () => {
    const { store, calls, answers } = heldStore();
    const late: BlockStore = {
      ...store,
      waitForLayers: (_progress, layers, timeoutMs) => {
        calls.push(`layers ${layers}`);
        const end = performance.now() + timeoutMs;
        while (performance.now() < end);
        return false;
      },
    };
    const runner = new StoreRunner(late);
    const loads = [{ taskId: 7, keys: ["a"], blockIds: Int32Array.of(0) }];
    const { store: nothing } = await runner.run(behindLoad({ loads }), async (_, beforeLayer) => {
      for (const layer of [0, 1, 2]) beforeLayer!(layer);
      return computed()();
    });
    expect(nothing).toBeNull();
    expect(calls).toEqual(["load a 0", "layers 1"]);
    answers[0]!();
    const { store: news } = await runner.run(stepOf({}), computed());
    // The step waited for it, so that its time is its own.
    expect(news!.loaded).toEqual([{ taskId: 7, statuses: ["ok"], durationMs: expect.any(Number) }]);
  });

  it("copies blocks of an earlier step before it loads or computes", async () => {
    const { store, calls } = heldStore();
    const runner = new StoreRunner(store);
    const work = {
      loads: [{ taskId: 1, keys: ["c"], blockIds: Int32Array.of(1) }],
      dumps: [
        { seqId: 1, keys: ["a"], blockIds: Int32Array.of(1), isFilled: true },
        { seqId: 2, keys: ["b"], blockIds: Int32Array.of(2), isFilled: false },
      ],
    };
    await runner.run(stepOf(work, [2]), async () => {
      expect(calls).toEqual(["dump a 1", "load c 1"]);
      return computed([1])();
    });
    runner.dump();
    expect(calls).toEqual(["dump a 1", "load c 1", "dump b 2"]);
  });

  it("dumps after the result, but for sequences that failed", async () => {
    const { store, calls, answers } = heldStore();
    const runner = new StoreRunner(store);
    const dumps = [
      { seqId: 1, keys: ["a", "bad"], blockIds: Int32Array.of(1, 2), isFilled: false },
      { seqId: 2, keys: ["b"], blockIds: Int32Array.of(3), isFilled: false },
    ];
    await runner.run(stepOf({ dumps }, [1, 2]), computed([2]));
    expect(calls).toEqual([]);
    runner.dump();
    runner.dump();
    expect(calls).toEqual(["dump a,bad 1,2"]);
    await runner.run(stepOf({ forgets: ["b", "c"] }), computed());
    expect(calls).toEqual(["dump a,bad 1,2", "forget b,c"]);
    answers[0]!();
    const { store: news } = await runner.run(stepOf({}), computed());
    expect(news).toEqual({ found: [], loaded: [], notStored: ["bad"] });
  });

  it("lets go of the pins that hold, once they do, and of none after its end", async () => {
    const { store, calls, answers } = heldStore();
    const runner = new StoreRunner(store);
    const pins = [
      { pinId: 1, keys: ["a", "bad"] },
      { pinId: 2, keys: ["b"] },
      { pinId: 3, keys: ["bad"] },
    ];
    await runner.run(stepOf({ pins }), computed());
    await runner.run(stepOf({ unpins: [1, 3] }), computed());
    expect(calls.slice(3)).toEqual([]);
    for (const answer of answers) answer();
    await runner.run(stepOf({}), computed());
    await expect.poll(() => calls.slice(3)).toEqual(["unpin a"]);
    await runner.close();
    await runner.run(stepOf({ unpins: [2] }), computed());
    expect(calls.slice(3)).toEqual(["unpin a"]);
  });

  it("has found nothing when a look-up takes long, and does not take its answer later", async () => {
    const { store, answers } = heldStore();
    const runner = new StoreRunner(store);
    const lookups = [{ taskId: 1, keys: ["a", "b"] }];
    let { store: news } = await runner.run(stepOf({ lookups }), computed());
    const begun = performance.now();
    while (news === null) ({ store: news } = await runner.run(stepOf({}), computed()));
    expect(performance.now() - begun).toBeGreaterThan(500);
    expect(news!.found).toEqual([{ taskId: 1, tiers: [null, null] }]);
    answers[0]!();
    expect((await runner.run(stepOf({}), computed())).store).toBeNull();
  });

  it("takes the answer of a look-up that came while a long step was computing", async () => {
    const store: BlockStore = {
      ...heldStore().store,
      // Answered on a thread, as a real store does.
      lookup: async (keys) => {
        await stat(tmpdir());
        return keys.map(() => "file");
      },
    };
    const runner = new StoreRunner(store);
    const lookups = [{ taskId: 1, keys: ["a"] }];
    const compute = async () => {
      const end = performance.now() + 1300;
      while (performance.now() < end);
      return computed()();
    };
    let { store: news } = await runner.run(stepOf({ lookups }, [1]), compute);
    while (news === null) ({ store: news } = await runner.run(stepOf({}), computed()));
    expect(news!.found).toEqual([{ taskId: 1, tiers: ["file"] }]);
  });
});
