import { describe, expect, it } from "vitest";
import { statsLine } from "../../../src/cli/stats-log.js";
import type { EngineStats } from "../../../src/engine/index.js";

const start: EngineStats = {
  running: 0,
  waiting: 0,
  usedBlocks: 0,
  numBlocks: 200,
  numPreemptions: 4,
  prefixCacheQueries: 0,
  prefixCacheHits: 0,
  externalPrefixCache: null,
  sparse: null,
  prefixCacheHitRate: 0,
  promptTokens: 100,
  promptTokensBySource: { computed: 100, cached: 0, loaded: 0 },
  stores: [],
  generatedTokens: 10,
  isAsleep: false,
};

describe("the line of statistics", () => {
  it("is vLLM's", () => {
    const now = { ...start, running: 2, waiting: 1, usedBlocks: 25, prefixCacheHitRate: 0.4561 };
    const totals = {
      ...{ promptTokens: 2000, generatedTokens: 355 },
      promptTokensBySource: { computed: 1124, cached: 700, loaded: 176 },
    };
    expect(statsLine(start, { ...now, ...totals }, 10)).toBe(
      "Engine 000: Avg prompt throughput: 102.4 tokens/s, Avg generation throughput: 34.5 tokens/s, " +
        "Running: 2 reqs, Waiting: 1 reqs, GPU KV cache usage: 12.5%, Prefix cache hit rate: 45.6%",
    );
    expect(statsLine(start, { ...now, numPreemptions: 7 }, 10)).toContain(
      "Waiting: 1 reqs, Preemptions: 3, GPU KV",
    );
  });
});
