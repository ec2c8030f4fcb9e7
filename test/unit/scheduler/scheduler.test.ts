import { describe, expect, it } from "vitest";
import { Scheduler } from "../../../src/scheduler/index.js";
import { makeInput, roomyConfig, Scenario, summarize } from "./scenario.js";

describe("batching", () => {
  it("cuts prompts to the token budget and samples with the last piece", () => {
    const scenario = new Scenario({ maxNumBatchedTokens: 4 }).add(makeInput(1, 10));
    expect(summarize(scenario.schedule())).toBe("1:0+4!");
    expect(scenario.answer()).toEqual([]);
    expect(scenario.step()).toBe("1:4+4");
    expect(summarize(scenario.schedule())).toBe("1:8+2");
    expect(scenario.answer(42)).toEqual([{ seqId: 1, tokenId: 42, logprobs: null, finish: null }]);
    expect(scenario.step()).toBe("1:10+1");
  });

  it("serves running sequences before waiting ones, decode and prefill in one step", () => {
    const scenario = new Scenario({ maxNumBatchedTokens: 8 }).add(makeInput(1, 3));
    scenario.step();
    scenario.add(makeInput(2, 20), makeInput(3, 2));
    expect(scenario.step()).toBe("1:3+1 2:0+7!");
    expect(scenario.step()).toBe("1:4+1 2:7+7");
    expect(scenario.step()).toBe("1:5+1 2:14+6 3:0+1!");
    expect(scenario.step()).toBe("1:6+1 2:20+1 3:1+1");
  });

  it("without chunked prefill a prompt waits for a step that takes all of it", () => {
    const scenario = new Scenario({
      enableChunkedPrefill: false,
      maxNumBatchedTokens: 16,
      maxModelLen: 16,
      longPrefillTokenThreshold: 2,
    }).add(
      makeInput(1, 10, { maxTokens: 3 }),
      makeInput(2, 8, { maxTokens: 1 }),
      makeInput(3, 1, { maxTokens: 1 }),
    );
    expect(scenario.step()).toBe("1:0+10!");
    expect(scenario.step()).toBe("1:10+1 2:0+8! 3:0+1!");
  });

  it("refuses a configuration whose prompts could never run", () => {
    const config = { ...roomyConfig, enableChunkedPrefill: false, maxNumBatchedTokens: 199 };
    expect(() => new Scheduler(config)).toThrow(
      expect.objectContaining({
        code: "UCM_ERR_CONFIG",
        message: expect.stringContaining("(199) is smaller than max_model_len (200)"),
      }),
    );
  });

  it("limits long prompts to their threshold", () => {
    const scenario = new Scenario({ longPrefillTokenThreshold: 5 }).add(
      makeInput(1, 12),
      makeInput(2, 3),
    );
    expect(scenario.step()).toBe("1:0+5! 2:0+3!");
    expect(scenario.step()).toBe("1:5+5 2:3+1");
    expect(scenario.step()).toBe("1:10+2 2:4+1");
  });

  it("runs at most maxNumSeqs and starts the next when one ends", () => {
    const scenario = new Scenario({ maxNumSeqs: 2 }).add(
      makeInput(1, 2, { maxTokens: 1 }),
      makeInput(2, 2),
      makeInput(3, 2),
    );
    expect(scenario.step()).toBe("1:0+2! 2:0+2!");
    const step = scenario.schedule();
    expect(summarize(step)).toBe("2:2+1 3:0+2!");
    expect([...step.finished]).toEqual([1]);
    expect(step.newSequences.map(({ seqId }) => seqId)).toEqual([3]);
  });

  it("admits a prompt only when blocks for all of it are free", () => {
    const scenario = new Scenario({
      blockSize: 2,
      numBlocks: 4,
      maxModelLen: 9,
      maxNumBatchedTokens: 3,
    }).add(makeInput(1, 2, { maxTokens: 2 }), makeInput(2, 8, { maxTokens: 1 }));
    expect(scenario.step()).toBe("1:0+2!"); // three blocks are left, 2 needs four
    expect(scenario.step()).toBe("1:2+1");
    expect(scenario.step()).toBe("2:0+3!");
  });

  it("gives each position a block, and only new blocks after the first step", () => {
    const scenario = new Scenario({ blockSize: 4 }).add(makeInput(1, 7));
    expect([...scenario.schedule().scheduled[0]!.newBlockIds]).toEqual([0, 1]);
    scenario.answer();
    expect([...scenario.schedule().scheduled[0]!.newBlockIds]).toEqual([]);
    scenario.answer();
    expect([...scenario.schedule().scheduled[0]!.newBlockIds]).toEqual([2]);
  });
});

describe("priority", () => {
  it("admits the lowest value first, then the first to arrive", () => {
    const scenario = new Scenario({ policy: "priority", maxNumSeqs: 1 }).add(
      makeInput(1, 1, { maxTokens: 1 }, 5),
      makeInput(2, 1, { maxTokens: 1 }, -1),
      makeInput(3, 1, { maxTokens: 1 }, 5),
      makeInput(4, 1, { maxTokens: 1 }, 0),
    );
    const order = Array.from({ length: 4 }, () => scenario.step());
    expect(order).toEqual(["2:0+1!", "4:0+1!", "1:0+1!", "3:0+1!"]);
  });

  it("is no matter under fcfs", () => {
    const scenario = new Scenario({ maxNumSeqs: 1 }).add(makeInput(1, 1, {}, 9), makeInput(2, 1));
    expect(scenario.step()).toBe("1:0+1!");
  });
});

describe("preemption", () => {
  it("under fcfs takes the last, which returns first and recomputes prompt and output", () => {
    const scenario = new Scenario({ blockSize: 2, numBlocks: 5, maxModelLen: 11 }).add(
      makeInput(1, 3, { maxTokens: 4 }),
      makeInput(2, 3, { maxTokens: 4 }),
    );
    expect(scenario.step()).toBe("1:0+3! 2:0+3!");
    expect(scenario.step()).toBe("1:3+1 2:3+1");
    scenario.add(makeInput(3, 1, { maxTokens: 1 }));
    expect(scenario.step()).toBe("1:4+1"); // takes the last block; 2 gives its own back
    expect(scenario.preempted).toEqual([2]);
    expect(scenario.scheduler.stats()).toMatchObject({ running: 1, waiting: 2, usedBlocks: 3 });
    expect(scenario.step()).toBe("1:5+1"); // 2 needs three blocks; 3 would fit but waits behind it
    expect(scenario.step()).toBe("2:0+5! 3:0+1!"); // tokens 3 and 4 are its output
    expect(scenario.preempted).toEqual([]);
    expect(scenario.scheduler.stats().numPreemptions).toBe(1);
  });

  it("under priority takes the worst, wherever it stands", () => {
    const scenario = new Scenario({
      policy: "priority",
      blockSize: 2,
      numBlocks: 4,
      maxModelLen: 9,
      maxNumBatchedTokens: 4,
    }).add(makeInput(1, 1, { maxTokens: 8 }, 9), makeInput(2, 2, { maxTokens: 5 }, 1));
    // 2 is admitted first; then 1, which stands behind it.
    expect(scenario.step()).toBe("2:0+2! 1:0+1!");
    scenario.add(makeInput(3, 1, { maxTokens: 4 }, 0));
    expect(scenario.step()).toBe("2:2+1 1:1+1 3:0+1!");
    expect(scenario.step()).toBe("2:3+1 3:1+1"); // 1 needs a second block: it is the worst itself
    expect(scenario.preempted).toEqual([1]);
    expect(scenario.scheduler.stats().usedBlocks).toBe(3);
  });

  it("takes back the tokens of a victim that was already in the step", () => {
    const scenario = new Scenario({
      policy: "priority",
      blockSize: 8,
      numBlocks: 3,
      maxModelLen: 25,
      maxNumBatchedTokens: 3,
    }).add(makeInput(1, 1, {}, 9));
    scenario.step();
    scenario.add(makeInput(2, 7, {}, 0), makeInput(3, 8, {}, 1));
    const steps = Array.from({ length: 5 }, () => scenario.step());
    expect(steps.slice(3)).toEqual(["1:4+1 2:6+1 3:0+1!", "1:5+1 2:7+1 3:1+1"]);
    // 1 was good for another token, but 2 needs its block; its token goes to 3.
    expect(scenario.step()).toBe("2:8+1 3:2+2");
    expect(scenario.preempted).toEqual([1]);
  });

  it("never leaves a step empty because one sequence preempted itself", () => {
    const scenario = new Scenario({
      policy: "priority",
      blockSize: 1,
      numBlocks: 4,
      maxModelLen: 5,
    }).add(makeInput(1, 1, { maxTokens: 4 }, 9));
    scenario.step();
    scenario.add(makeInput(2, 1, { maxTokens: 4 }, 0));
    expect(scenario.step()).toBe("1:1+1 2:0+1!");
    expect(scenario.step()).toBe("2:1+1");
    expect(scenario.preempted).toEqual([1]);
  });
});

describe("refusals", () => {
  it("refuses what can never fit, with the longest that does", () => {
    const { scheduler } = new Scenario({ blockSize: 4, numBlocks: 5, maxModelLen: 200 });
    scheduler.add([makeInput(1, 15, { maxTokens: 6 })]); // the last token needs no place
    expect(() => scheduler.add([makeInput(2, 15, { maxTokens: 7 })])).toThrow(
      expect.objectContaining({
        code: "UCM_ERR_CONTEXT_LENGTH",
        message: expect.stringContaining("the longest that fits is 21 tokens"),
      }),
    );
    expect(scheduler.stats().waiting).toBe(1);
  });

  it("refuses more than the running and the queued, and takes all or none of a request", () => {
    const { scheduler } = new Scenario({ maxNumSeqs: 1, maxNumQueuedRequests: 2 });
    scheduler.add([makeInput(1, 1), makeInput(2, 1)]);
    scheduler.add([makeInput(3, 1)]);
    expect(() => scheduler.add([makeInput(4, 1)])).toThrow(
      expect.objectContaining({ code: "UCM_ERR_QUEUE_FULL", httpStatus: 429 }),
    );
    scheduler.abort(2);
    expect(() => scheduler.add([makeInput(4, 1), makeInput(5, 500)])).toThrow("longest that fits");
    expect(scheduler.stats().waiting).toBe(2);
    scheduler.add([makeInput(6, 1)]);
  });
});

describe("abort", () => {
  it("frees at once; a step in flight keeps its blocks from others until it has returned", () => {
    const scenario = new Scenario({ blockSize: 2, numBlocks: 4, maxModelLen: 9 }).add(
      makeInput(1, 8, { maxTokens: 1 }),
      makeInput(2, 8, { maxTokens: 1 }),
    );
    const step = scenario.schedule();
    expect([...step.scheduled[0]!.newBlockIds]).toEqual([0, 1, 2, 3]);
    expect(scenario.scheduler.abort(1)).toBe(true);
    expect(scenario.scheduler.abort(1)).toBe(false);
    expect(scenario.scheduler.stats()).toMatchObject({ running: 0, waiting: 1, usedBlocks: 0 });
    expect(() => scenario.schedule()).toThrow("Step 1 is still in flight: its blocks are in use.");
    expect(scenario.answer()).toEqual([]); // its token is dropped
    const next = scenario.schedule();
    expect([...next.finished]).toEqual([1]);
    expect([...next.scheduled[0]!.newBlockIds].sort()).toEqual([0, 1, 2, 3]);
  });

  it("of a sequence that never ran tells the worker nothing", () => {
    const scenario = new Scenario({ maxNumSeqs: 1 }).add(makeInput(1, 1), makeInput(2, 1));
    scenario.step();
    scenario.scheduler.abort(2);
    expect([...scenario.schedule().finished]).toEqual([]);
    scenario.answer();
    scenario.scheduler.abort(1);
    expect(scenario.scheduler.hasWork()).toBe(false);
  });

  it("of a preempted sequence takes it from the queue and from the worker", () => {
    const scenario = new Scenario({ blockSize: 1, numBlocks: 4, maxModelLen: 5 }).add(
      makeInput(1, 2, { maxTokens: 3 }),
      makeInput(2, 2, { maxTokens: 3 }),
    );
    scenario.step();
    scenario.schedule();
    expect(scenario.preempted).toEqual([2]);
    scenario.scheduler.abort(2);
    scenario.answer();
    expect(scenario.scheduler.stats()).toMatchObject({ running: 1, waiting: 0 });
    expect([...scenario.schedule().finished]).toEqual([2]);
  });
});

describe("end of a sequence", () => {
  const finishAfter = (tokens: number[], sampling: Parameters<typeof makeInput>[2]) => {
    const scenario = new Scenario({ maxModelLen: 10 }).add(makeInput(1, 5, sampling));
    for (const [i, tokenId] of tokens.entries()) {
      scenario.schedule();
      const [event] = scenario.answer(tokenId);
      if (event!.finish !== null) return { after: i + 1, ...event!.finish };
    }
    return null;
  };

  it.each([
    ["EOS", [7, 2], { eosTokenIds: [3, 2] }, { after: 2, reason: "stop", stopReason: null }],
    ["EOS ignored", [2, 2, 2], { eosTokenIds: [2], ignoreEos: true, maxTokens: 4 }, null],
    ["a stop token", [7, 9], { stopTokenIds: [9] }, { after: 2, reason: "stop", stopReason: 9 }],
    [
      "EOS that is also a stop token",
      [2],
      { eosTokenIds: [2], stopTokenIds: [2] },
      { after: 1, reason: "stop", stopReason: null },
    ],
    [
      "EOS that is ignored but a stop token",
      [2],
      { eosTokenIds: [2], stopTokenIds: [2], ignoreEos: true },
      { after: 1, reason: "stop", stopReason: 2 },
    ],
    [
      "stops held back by min_tokens",
      [2, 9, 2],
      { eosTokenIds: [2], stopTokenIds: [9], minTokens: 3 },
      { after: 3, reason: "stop", stopReason: null },
    ],
    ["max_tokens", [7, 7], { maxTokens: 2 }, { after: 2, reason: "length", stopReason: null }],
    [
      "EOS as the last token allowed",
      [7, 2],
      { eosTokenIds: [2], maxTokens: 2 },
      { after: 2, reason: "stop", stopReason: null },
    ],
  ])("%s", (_, tokens, sampling, expected) => {
    expect(finishAfter(tokens, { maxTokens: 5, ...sampling })).toEqual(expected);
  });
});

describe("step protocol", () => {
  const reply = (stepId: number, sampled: { seqId: number; tokenId: number }[]) => ({
    type: "stepResult" as const,
    stepId,
    sampled: sampled.map((sample) => ({ ...sample, logprobs: null })),
    failed: [],
    promptLogprobs: [],
    durationMs: 0,
  });

  it.each([
    ["another step", reply(7, [{ seqId: 1, tokenId: 1 }]), "answered step 7 instead of step 1"],
    ["a token missing", reply(1, []), "sequence 1 got no token in step 1"],
    [
      "a token twice",
      reply(
        1,
        [1, 1].map((seqId) => ({ seqId, tokenId: 1 })),
      ),
      "sequence 1 was not due",
    ],
    [
      "a token for half a prompt",
      reply(
        1,
        [1, 2].map((seqId) => ({ seqId, tokenId: 1 })),
      ),
      "sequence 2 was not due",
    ],
    [
      "a failure of half a prompt",
      {
        ...reply(1, [{ seqId: 1, tokenId: 1 }]),
        failed: [
          { seqId: 2, error: { code: "UCM_ERR_INTERNAL" as const, message: "x", param: null } },
        ],
      },
      "sequence 2 was not due to fail",
    ],
    ["no token id", reply(1, [{ seqId: 1, tokenId: -1 }]), "sequence 1 got token id -1"],
  ])("refuses a reply with %s", (_, result, message) => {
    const scenario = new Scenario({ maxNumBatchedTokens: 4 }).add(makeInput(1, 2), makeInput(2, 9));
    scenario.schedule();
    expect(() => scenario.scheduler.update(result)).toThrow(
      expect.objectContaining({
        code: "UCM_ERR_WORKER",
        message: expect.stringContaining(message),
      }),
    );
  });

  it("refuses a reply when nothing was asked", () => {
    expect(() => new Scenario().scheduler.update(reply(1, []))).toThrow("Step 1 is not in flight");
  });
});
