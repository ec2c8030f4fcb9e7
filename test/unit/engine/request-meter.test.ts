import { describe, expect, it } from "vitest";
import { Engine } from "../../../src/engine/index.js";
import type { EngineObserver } from "../../../src/metrics/index.js";
import { collect, makeBench, makeRequest, says } from "./bench.js";

/** Notes every call, and a clock that goes on by 10 ms whenever it is read. */
function observe() {
  const calls: [string, unknown][] = [];
  const names = ["stepped", "gotFirstToken", "gotNextToken", "sequenceEnded", "requestEnded"];
  const observer = Object.fromEntries(
    [...names, "lookedUp", "transferred"].map((name) => [
      name,
      (value: unknown) => void calls.push([name, value]),
    ]),
  ) as unknown as EngineObserver;
  const of = (name: string) => calls.filter(([call]) => call === name).map(([, value]) => value);
  return { observer, of };
}

function makeEngine() {
  const { config, executor, tokenizer } = makeBench({ nextToken: says([5, 6, 7, 8]) });
  const { observer, of } = observe();
  let nowMs = 0;
  const clock = () => {
    nowMs += 10;
    return nowMs;
  };
  return { engine: new Engine({ config, executor, tokenizer, clock, observer }), executor, of };
}

describe("what the engine tells its observer", () => {
  it("tells of every token and sequence of a request once", async () => {
    const { engine, of } = makeEngine();
    await collect(engine.generate(makeRequest({ n: 2, maxTokens: 3 })));
    expect(of("gotFirstToken")).toHaveLength(2);
    expect(of("gotNextToken")).toHaveLength(4);
    expect(of("sequenceEnded")).toMatchObject([
      { finishedReason: "length", promptTokens: 3, generatedTokens: 3, maxTokens: 3 },
      { finishedReason: "length", generatedTokens: 3 },
    ]);
    expect(of("requestEnded")).toEqual([{ n: 2, maxGeneratedTokens: 3 }]);
    const tokens = of("stepped").map((step) => (step as { numTokens: number }).numTokens);
    expect(tokens.reduce((sum, n) => sum + n, 0)).toBe(3 + 3 + 2 * 2);
    for (const ended of of("sequenceEnded") as Record<string, number>[]) {
      const { arrivalMs, scheduledMs, firstTokenMs, lastTokenMs, endMs } = ended;
      const times = [arrivalMs!, scheduledMs!, firstTokenMs!, lastTokenMs!, endMs!];
      expect(times).toEqual([...times].sort((a, b) => a - b));
    }
    const { promptTokens, promptTokensBySource, stores } = engine.stats();
    const { computed, cached, loaded } = promptTokensBySource;
    expect([promptTokens, computed + cached + loaded]).toEqual([6, 6]);
    expect(stores).toEqual([]);
  });

  it("counts a request that is left as aborted, whether it ran or waited", async () => {
    const { engine, executor, of } = makeEngine();
    executor.hold();
    const controller = new AbortController();
    const stream = collect(engine.generate(makeRequest({ maxTokens: 50 }), controller.signal));
    controller.abort();
    executor.release();
    await stream;
    expect(of("sequenceEnded")).toMatchObject([{ finishedReason: "abort", generatedTokens: 0 }]);
    expect(of("requestEnded")).toEqual([{ n: 1, maxGeneratedTokens: 0 }]);
  });

  it("counts what the workers' death ends as errors", async () => {
    const { engine, executor, of } = makeEngine();
    executor.hold();
    const stream = collect(engine.generate(makeRequest({ maxTokens: 50 })));
    await new Promise((done) => setTimeout(done, 20));
    executor.die(new Error("gone"));
    await expect(stream).rejects.toThrow("gone");
    expect(of("sequenceEnded")).toMatchObject([{ finishedReason: "error" }]);
  });
});
