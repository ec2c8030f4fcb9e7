import { describe, expect, it } from "vitest";
import { LiveRequest } from "../../../src/engine/live-request.js";
import { PromptLogprobCollector } from "../../../src/engine/prompt-logprobs.js";
import type { LogprobRows } from "../../../src/messages/index.js";
import { collect, makeRequest } from "./bench.js";

function makeRows(...tokenIds: number[]): LogprobRows {
  return {
    width: 1,
    tokenIds: Int32Array.from(tokenIds),
    logprobs: Float32Array.from(tokenIds.map((id) => -id)),
    ranks: Int32Array.from(tokenIds.map((id) => id)),
  };
}

describe("PromptLogprobCollector", () => {
  it("is complete when every position but the first has come, in any order and number", () => {
    const collector = new PromptLogprobCollector(4);
    collector.add({ seqId: 1, firstPosition: 1, rows: makeRows(5, 6) });
    collector.add({ seqId: 1, firstPosition: 1, rows: makeRows(5, 6) });
    expect(collector.complete).toBeNull();
    collector.add({ seqId: 1, firstPosition: 3, rows: makeRows(7) });
    expect(collector.complete).toEqual([
      null,
      { tokenIds: [5], logprobs: [-5], rank: 5 },
      { tokenIds: [6], logprobs: [-6], rank: 6 },
      { tokenIds: [7], logprobs: [-7], rank: 7 },
    ]);
  });

  it("is complete at once for a prompt of one token", () => {
    expect(new PromptLogprobCollector(1).complete).toEqual([null]);
  });
});

describe("LiveRequest", () => {
  it("keeps outputs until the prompt's log-probabilities can go with the first", async () => {
    const live = new LiveRequest(
      makeRequest({ n: 2, promptLogprobs: 0, maxTokens: 1 }, { promptTokenIds: [1, 2] }),
      { firstSeqId: 10, tokenizer: null, blockHasher: null, arrivalMs: 0, onCancel: () => {} },
    );
    const finish = { reason: "length", stopReason: null } as const;
    live.addToken({ seqId: 11, tokenId: 4, logprobs: null, finish }, 1);
    live.addPromptLogprobs({ seqId: 10, firstPosition: 1, rows: makeRows(2) });
    live.addToken({ seqId: 10, tokenId: 3, logprobs: null, finish }, 2);
    expect(live.isDone).toBe(true);
    const outputs = await collect(live.queue);
    expect(outputs.map(({ delta }) => delta.index)).toEqual([1, 0]);
    expect(outputs.map(({ promptLogprobs }) => promptLogprobs)).toEqual([
      [null, { tokenIds: [2], logprobs: [-2], rank: 2 }],
      null,
    ]);
  });
});
