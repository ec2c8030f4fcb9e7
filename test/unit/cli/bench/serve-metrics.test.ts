import { existsSync, readFileSync } from "node:fs";
import { resolve } from "node:path";
import { describe, expect, it } from "vitest";
import { computeMetrics } from "../../../../src/cli/bench/serve-metrics.js";
import { renderServeReport, resultOf } from "../../../../src/cli/bench/serve-report.js";
import { percentileOf, summarize } from "../../../../src/cli/bench/statistics.js";
import type { RequestOutcome } from "../../../../src/cli/bench/timed-request.js";
import { root } from "../../../helpers/ucm-command.js";

const outcome = (changes: Partial<RequestOutcome>): RequestOutcome => ({
  error: null,
  startS: 100,
  ttftS: 0.1,
  itlS: [0.05, 0.15],
  latencyS: 0.3,
  text: "a b c",
  outputTokens: 3,
  promptLen: 10,
  ...changes,
});

const countTokens = (text: string) => text.split(" ").length;

describe("statistics", () => {
  it("are numpy's", () => {
    const { mean, median, std, percentiles } = summarize([4, 1, 3, 2], [25, 99]);
    expect({ mean, median }).toEqual({ mean: 2.5, median: 2.5 });
    expect(std).toBeCloseTo(1.118033988749895, 12);
    expect(percentiles.get(25)).toBe(1.75);
    expect(percentiles.get(99)).toBeCloseTo(3.97, 12);
    expect(percentileOf([7], 99)).toBe(7);
    expect(summarize([], [99])).toEqual({
      mean: 0,
      median: 0,
      std: 0,
      percentiles: new Map([[99, 0]]),
    });
  });
});

describe("metrics", () => {
  const outcomes = [
    outcome({}),
    outcome({ startS: 101.5, outputTokens: null, text: "one two three four five" }),
    outcome({ startS: 101.6, outputTokens: 1, itlS: [], latencyS: 0.1 }),
    outcome({ error: "refused", promptLen: 1000 }),
  ];
  const { metrics, outputLens } = computeMetrics(outcomes, 2, {
    percentiles: [99],
    goodput: { ttft: 150, e2el: 200 },
    countTokens,
  });

  it("follow vLLM's definitions", () => {
    expect(metrics).toMatchObject({ completed: 3, failed: 1, totalInput: 30, totalOutput: 9 });
    expect(outputLens).toEqual([3, 5, 1, 0]);
    expect(metrics.requestThroughput).toBe(1.5);
    expect(metrics.requestGoodput).toBe(0.5);
    expect(metrics.totalThroughput).toBe(19.5);
    // (latency - ttft) / (tokens - 1); requests of one token have none.
    expect(metrics.latencies.tpot.mean * 2).toBeCloseTo(100 + 50, 9);
    expect(metrics.latencies.itl.mean).toBeCloseTo(100, 9);
    expect(metrics.maxConcurrentRequests).toBe(2);
    expect(metrics.maxOutputTokensPerS).toBe(4);
  });

  it("are zero when nothing succeeded", () => {
    const none = computeMetrics([outcomes[3]!], 1, {
      percentiles: [99],
      goodput: null,
      countTokens,
    });
    expect(none.metrics).toMatchObject({ completed: 0, failed: 1, maxConcurrentRequests: 0 });
    expect(none.metrics.latencies.ttft.mean).toBe(0);
  });

  it("are saved under vLLM's keys", () => {
    const keys = Object.keys(
      resultOf(metrics, {
        maxConcurrency: null,
        requestRate: 1,
        selected: ["ttft"],
        percentiles: [99],
      }),
    );
    expect(keys).toEqual([
      "duration",
      "completed",
      "failed",
      "total_input_tokens",
      "total_output_tokens",
      "request_throughput",
      "request_goodput",
      "output_throughput",
      "total_token_throughput",
      "max_output_tokens_per_s",
      "max_concurrent_requests",
      "mean_ttft_ms",
      "median_ttft_ms",
      "std_ttft_ms",
      "p99_ttft_ms",
    ]);
  });
});

describe("the report", () => {
  const path = resolve(root, "../shared/reference/vllm.md");
  const isThere = existsSync(path);
  if (!isThere) console.warn(`Skipping the comparison with vLLM's table: there is no ${path}.`);

  it.runIf(isThere)("has vLLM's lines, to the column", () => {
    const block = /```\n(=+ Serving Benchmark Result[\s\S]*?)```/.exec(
      readFileSync(path, "utf8"),
    )![1]!;
    const { metrics } = computeMetrics([outcome({})], 12.35, {
      percentiles: [99],
      goodput: {},
      countTokens,
    });
    const report = renderServeReport(metrics, {
      maxConcurrency: 16,
      requestRate: 4,
      selected: ["ttft", "tpot", "itl", "e2el"],
      percentiles: [99],
    }).split("\n");
    const wanted = block.split("\n").filter((line) => line !== "");
    const labels = wanted.flatMap((line) => line.match(/[A-Z][^:]*:/g) ?? [line.slice(0, 50)]);
    for (const label of labels) {
      const text = label.trim();
      expect(
        report.some((line) => line.startsWith(text)),
        text,
      ).toBe(true);
    }
    expect(report[1]).toBe("Successful requests:                     1         ");
    expect(report.every((line) => line.length >= 50)).toBe(true);
  });
});
