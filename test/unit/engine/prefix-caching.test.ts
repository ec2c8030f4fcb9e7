import { describe, expect, it } from "vitest";
import type { GenerateRequest } from "../../../src/engine/types.js";
import { type Bench, collect, joinDeltas, makeBench, makeRequest } from "./bench.js";

const PROMPT = Array.from({ length: 13 }, (_, i) => i);

/** Tokens of the cache that each output of a request tells of; all must agree. */
async function cachedTokens(
  { engine }: Bench,
  sampling: Parameters<typeof makeRequest>[0] = {},
  changes: Partial<GenerateRequest> = {},
): Promise<number> {
  const request = makeRequest(
    { maxTokens: 3, ...sampling },
    { promptTokenIds: PROMPT, ...changes },
  );
  const outputs = await collect(engine.generate(request));
  const told = new Set(outputs.map(({ numCachedTokens }) => numCachedTokens));
  expect(told.size).toBe(1);
  return [...told][0]!;
}

describe("prefix caching", () => {
  it("tells with every output how many prompt tokens were found", async () => {
    const bench = makeBench();
    expect(await cachedTokens(bench)).toBe(0);
    expect(await cachedTokens(bench)).toBe(12);
    expect(await cachedTokens(bench, {}, { promptTokenIds: PROMPT.slice(0, 12) })).toBe(8);
    expect(await cachedTokens(bench, {}, { promptTokenIds: [...PROMPT].reverse() })).toBe(0);
    expect(bench.engine.stats()).toMatchObject({
      prefixCacheQueries: 13 + 13 + 12 + 13,
      prefixCacheHits: 20,
      prefixCacheHitRate: 20 / 51,
      usedBlocks: 0,
    });
    const [first, second] = bench.executor.steps.filter((step) => step.newSequences.length > 0);
    expect(first!.scheduled[0]).toMatchObject({ numComputedTokens: 0, numTokens: 13 });
    expect(second!.scheduled[0]).toMatchObject({ numComputedTokens: 12, numTokens: 1 });
  });

  it("goes on with what was answered in the turn before", async () => {
    const bench = makeBench();
    const turn = makeRequest({ maxTokens: 8 }, { promptTokenIds: PROMPT });
    const { tokenIds } = joinDeltas(await collect(bench.engine.generate(turn)));
    const promptTokenIds = [...PROMPT, ...tokenIds, 1, 2, 3];
    expect(await cachedTokens(bench, {}, { promptTokenIds })).toBe(20);
  });

  it("keeps salts apart", async () => {
    const bench = makeBench();
    expect(await cachedTokens(bench, {}, { cacheSalt: "a" })).toBe(0);
    expect(await cachedTokens(bench, {}, { cacheSalt: "b" })).toBe(0);
    expect(await cachedTokens(bench)).toBe(0);
    expect(await cachedTokens(bench, {}, { cacheSalt: "a" })).toBe(12);
  });

  it("computes all of a prompt that is to be scored, and the others find it then", async () => {
    const bench = makeBench();
    await cachedTokens(bench);
    expect(await cachedTokens(bench, { promptLogprobs: 1 })).toBe(0);
    expect(await cachedTokens(bench)).toBe(12);
  });

  it("computes the prompt of n sequences once", async () => {
    const bench = makeBench();
    expect(await cachedTokens(bench, { n: 4 })).toBe(0);
    const computed = bench.executor.steps.slice(0, 2).map(({ scheduled }) => {
      return scheduled.map(({ numComputedTokens, numTokens }) => [numComputedTokens, numTokens]);
    });
    expect(computed).toEqual([
      [[0, 13]],
      [
        [13, 1],
        [12, 1],
        [12, 1],
        [12, 1],
      ],
    ]);
  });

  it("does nothing when it is off", async () => {
    const bench = makeBench({ cache: { enablePrefixCaching: false } });
    await cachedTokens(bench);
    expect(await cachedTokens(bench)).toBe(0);
    expect(bench.engine.stats()).toMatchObject({ prefixCacheQueries: 0, prefixCacheHitRate: 0 });
  });

  it.each(["", "lone \ud800", "\udc00"])("refuses the salt %j", (cacheSalt) => {
    const { engine } = makeBench();
    expect(() => engine.generate(makeRequest({}, { cacheSalt }))).toThrow(
      expect.objectContaining({ code: "UCM_ERR_INVALID_REQUEST", param: "cache_salt" }),
    );
    expect(() => engine.generate(makeRequest({}, { cacheSalt: "🙂" }))).not.toThrow();
  });
});
