import { type Summary, sum, summarize } from "./statistics.js";
import type { RequestOutcome } from "./timed-request.js";

/** Latencies that can be reported, in the order of the report, with the words of its sections. */
export const metricTitles = {
  ttft: { name: "TTFT", title: "Time to First Token" },
  tpot: { name: "TPOT", title: "Time per Output Token (excl. 1st token)" },
  itl: { name: "ITL", title: "Inter-token Latency" },
  e2el: { name: "E2EL", title: "End-to-end Latency" },
} as const;

export type MetricName = keyof typeof metricTitles;

/** The figures of a run, as vLLM defines them; latencies in ms. */
export interface ServeMetrics {
  completed: number;
  failed: number;
  durationS: number;
  totalInput: number;
  totalOutput: number;
  requestThroughput: number;
  /** Null without limits. */
  requestGoodput: number | null;
  outputThroughput: number;
  totalThroughput: number;
  /** Tokens in the best second. */
  maxOutputTokensPerS: number;
  maxConcurrentRequests: number;
  latencies: Record<MetricName, Summary>;
}

/** `countTokens` is asked where the server did not count. */
export function computeMetrics(
  outcomes: readonly RequestOutcome[],
  durationS: number,
  options: {
    percentiles: readonly number[];
    goodput: Partial<Record<MetricName, number>> | null;
    countTokens(text: string): number;
  },
): { metrics: ServeMetrics; outputLens: number[] } {
  const done = outcomes.filter(({ error }) => error === null);
  const lens = new Map(
    done.map((one) => [one, one.outputTokens ?? options.countTokens(one.text)] as const),
  );
  const tpotOf = (one: RequestOutcome) => (one.latencyS - one.ttftS) / (lens.get(one)! - 1);
  const several = done.filter((one) => lens.get(one)! > 1);
  const totalInput = sum(done.map(({ promptLen }) => promptLen));
  const totalOutput = sum([...lens.values()]);
  const inMs = (seconds: number[]) =>
    summarize(
      seconds.map((value) => value * 1000),
      options.percentiles,
    );
  const isGood = (one: RequestOutcome) => {
    const ms = {
      ttft: one.ttftS * 1000,
      tpot: (lens.get(one)! > 1 ? tpotOf(one) : 0) * 1000,
      e2el: one.latencyS * 1000,
      itl: 0,
    };
    return Object.entries(options.goodput ?? {}).every(
      ([name, limit]) => ms[name as MetricName] <= limit,
    );
  };
  const metrics: ServeMetrics = {
    completed: done.length,
    failed: outcomes.length - done.length,
    durationS,
    totalInput,
    totalOutput,
    requestThroughput: done.length / durationS,
    requestGoodput: options.goodput === null ? null : done.filter(isGood).length / durationS,
    outputThroughput: totalOutput / durationS,
    totalThroughput: (totalInput + totalOutput) / durationS,
    ...peaks(done),
    latencies: {
      ttft: inMs(done.map(({ ttftS }) => ttftS)),
      tpot: inMs(several.map(tpotOf)),
      itl: inMs(done.flatMap(({ itlS }) => itlS)),
      e2el: inMs(done.map(({ latencyS }) => latencyS)),
    },
  };
  return { metrics, outputLens: outcomes.map((one) => lens.get(one) ?? 0) };
}

/** Most tokens, and most requests in flight, in any second since the first request. */
function peaks(done: readonly RequestOutcome[]) {
  const originS = Math.min(...done.map(({ startS }) => startS));
  const tokens = new Map<number, number>();
  const requests = new Map<number, number>();
  const count = (map: Map<number, number>, second: number) =>
    map.set(second, (map.get(second) ?? 0) + 1);
  for (const { startS, ttftS, itlS, latencyS } of done) {
    const begin = startS - originS;
    let time = begin + ttftS;
    count(tokens, Math.floor(time));
    for (const gap of itlS) {
      time += gap;
      count(tokens, Math.floor(time));
    }
    for (let s = Math.floor(begin); s <= Math.floor(begin + latencyS); s++) count(requests, s);
  }
  return {
    maxOutputTokensPerS: Math.max(0, ...tokens.values()),
    maxConcurrentRequests: Math.max(0, ...requests.values()),
  };
}
