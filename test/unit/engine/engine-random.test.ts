import { setImmediate as nextTurn } from "node:timers/promises";
import { describe, expect, it } from "vitest";
import type { GenerateOutput } from "../../../src/engine/types.js";
import { type RandomInt, seededRandom } from "../scheduler/random-workload.js";
import { nextToken } from "../scheduler/simulated-worker.js";
import { joinDeltas, makeBench, makeRequest } from "./bench.js";

const PIECES = ["x", "y ", "xy", "é", "🙂", "z"];
const REQUESTS = 400;

/** Letters mostly, so that stop strings of a letter or two are met often. */
function speak(known: readonly number[]): number {
  return 256 + nextToken(known, PIECES.length);
}

function randomRequest(random: RandomInt) {
  const promptTokenIds = Array.from({ length: random(1, 20) }, () => random(0, 255));
  return makeRequest(
    {
      maxTokens: random(1, 40),
      minTokens: 0,
      n: random(0, 4) === 0 ? random(2, 4) : 1,
      stop: [[], ["xx"], ["yx", "🙂x"]][random(0, 2)]!,
      stopTokenIds: random(0, 3) === 0 ? [258] : [],
    },
    { promptTokenIds, priority: random(0, 3) },
  );
}

/** The text and tokens that a request must give, alone or not. */
function expected({ promptTokenIds, sampling }: ReturnType<typeof makeRequest>) {
  const known = [...promptTokenIds];
  const tokenIds: number[] = [];
  let text = "";
  for (;;) {
    const tokenId = speak(known);
    known.push(tokenId);
    tokenIds.push(tokenId);
    if (sampling.stopTokenIds.includes(tokenId)) {
      return { text, tokenIds, finishReason: "stop", stopReason: tokenId };
    }
    text += PIECES[tokenId - 256]!;
    const starts = sampling.stop.map((stop) => ({ stop, start: text.indexOf(stop) }));
    const [match] = starts.filter((s) => s.start !== -1).sort((a, b) => a.start - b.start);
    if (match !== undefined) {
      text = text.slice(0, match.start);
      return { text, tokenIds, finishReason: "stop", stopReason: match.stop };
    }
    if (tokenIds.length === sampling.maxTokens) {
      return { text, tokenIds, finishReason: "length", stopReason: null };
    }
  }
}

describe.each(["fcfs", "priority"] as const)("a crowd of requests under %s", (policy) => {
  it(`${REQUESTS} requests: each its own text, however it shares and whoever leaves`, async () => {
    const random = seededRandom(2024);
    const { engine } = makeBench({
      pieces: PIECES,
      nextToken: speak,
      cache: { numBlocks: 22, blockSize: 3 },
      scheduler: { policy, maxNumBatchedTokens: 12, maxNumSeqs: 6, maxNumQueuedRequests: 1000 },
    });
    const ends = { whole: 0, left: 0, aborted: 0 };
    const consume = async (request: ReturnType<typeof makeRequest>) => {
      const fate = random(0, 9);
      const patience = random(0, 20);
      const controller = new AbortController();
      const outputs: GenerateOutput[] = [];
      for await (const output of engine.generate(request, controller.signal)) {
        outputs.push(output);
        if (outputs.length > patience && fate === 0) {
          ends.left += 1;
          return;
        }
        if (outputs.length > patience && fate === 1) controller.abort();
      }
      const whole = expected(request);
      for (let index = 0; index < request.sampling.n; index++) {
        const joined = joinDeltas(outputs, index);
        const finals = outputs.filter(
          (o) => o.delta.index === index && o.delta.finishReason !== null,
        );
        expect(finals).toHaveLength(1);
        if (joined.finishReason !== "abort") expect(joined).toEqual(whole);
        else {
          expect(controller.signal.aborted).toBe(true);
          expect(whole.tokenIds.slice(0, joined.tokenIds.length)).toEqual(joined.tokenIds);
        }
        ends[joined.finishReason === "abort" ? "aborted" : "whole"] += 1;
      }
    };
    const consumers: Promise<void>[] = [];
    for (let i = 0; i < REQUESTS; i++) {
      consumers.push(consume(randomRequest(random)));
      for (let turns = random(0, 12); turns > 0; turns--) await nextTurn();
    }
    await Promise.all(consumers);
    await engine.drain();
    expect(engine.stats()).toMatchObject({ running: 0, waiting: 0, usedBlocks: 0 });
    expect(engine.stats().numPreemptions).toBeGreaterThan(20);
    for (const count of Object.values(ends)) expect(count).toBeGreaterThan(5);
  });
});
