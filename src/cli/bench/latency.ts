import { writeFileSync } from "node:fs";
import type { Invocation } from "../invocation.js";
import { createProgressBar } from "../load-progress.js";
import {
  type EngineBench,
  flopsPerToken,
  generateOne,
  randomPrompt,
  withEngine,
} from "./engine-bench.js";
import { RandomSource } from "./random-source.js";
import { measureRoofs, productsPerS, type Roofs, renderRoofs } from "./roofs.js";
import { row } from "./serve-report.js";
import { percentileOf, sum } from "./statistics.js";

const percentiles = [10, 25, 50, 75, 90, 99];

/** One run of the batch, in seconds. */
interface BatchTimes {
  wallS: number;
  /** From arrival to the first token of the last prompt. */
  prefillS: number;
}

const print = (line: string) => process.stdout.write(`${line}\n`);

/**
 * `ucm bench latency`: time of one batch from start to end, in vLLM's words, and below it what was read
 * and computed beside the machine's roofs. Prefixes are cached only when asked for, as in vLLM.
 */
export async function runBenchLatency(invocation: Invocation<"bench latency">): Promise<number> {
  const { flags, sources, warnings } = invocation;
  const isDefault = sources.get("enable-prefix-caching") === "default";
  const engineFlags = isDefault ? { ...flags, enablePrefixCaching: false } : flags;
  return withEngine(engineFlags, warnings, async (bench) => {
    const times = await measureBatches(bench, flags);
    if (bench.signal.aborted) return;
    const latencies = times.map(({ wallS }) => wallS).sort((a, b) => a - b);
    const average = sum(latencies) / latencies.length;
    print(`Avg latency: ${average} seconds`);
    for (const p of percentiles) {
      print(`${p}% percentile latency: ${percentileOf(latencies, p)} seconds`);
    }
    const roofs = await measureRoofs(bench.config.parallel.threads);
    print(renderRoofs(roofs));
    print(renderUse(bench, flags, times, roofs));
    if (flags.outputJson !== null) {
      const named = Object.fromEntries(percentiles.map((p) => [p, percentileOf(latencies, p)]));
      const result = { avg_latency: average, latencies, percentiles: named, roofs };
      writeFileSync(flags.outputJson, `${JSON.stringify(result, null, 4)}\n`);
    }
  });
}

async function measureBatches(
  bench: EngineBench,
  flags: Invocation<"bench latency">["flags"],
): Promise<BatchTimes[]> {
  const random = new RandomSource(flags.seed);
  const prompts = Array.from({ length: flags.batchSize }, () =>
    randomPrompt(flags.inputLen, bench.config.model.vocabSize, random),
  );
  const runBatch = async (round: number): Promise<BatchTimes> => {
    const startMs = performance.now();
    const outcomes = await Promise.all(
      prompts.map((tokenIds, index) =>
        generateOne(bench, {
          id: `bench-${round}-${index}`,
          tokenIds,
          outputLen: flags.outputLen,
          n: flags.n,
          detokenize: !flags.disableDetokenize,
        }),
      ),
    );
    const firstMs = Math.max(...outcomes.map(({ firstTokenMs }) => firstTokenMs));
    const arrivalMs = Math.min(...outcomes.map(({ arrivalMs }) => arrivalMs));
    return {
      wallS: (performance.now() - startMs) / 1000,
      prefillS: (firstMs - arrivalMs) / 1000,
    };
  };
  print("Warming up...");
  for (let i = 0; i < flags.numItersWarmup && !bench.signal.aborted; i++) await runBatch(-1 - i);
  const bar = createProgressBar(true);
  const times: BatchTimes[] = [];
  while (times.length < flags.numIters && !bench.signal.aborted) {
    times.push(await runBatch(times.length));
    bar.update(times.length, flags.numIters, "Bench iterations");
  }
  bar.stop();
  return times;
}

/** Rates of the median run: prefill computes, decode reads all weights for each token of the batch. */
function renderUse(
  { config, runtime }: EngineBench,
  flags: Invocation<"bench latency">["flags"],
  times: readonly BatchTimes[],
  roofs: Roofs,
): string {
  const middle = [...times].sort((a, b) => a.wallS - b.wallS)[Math.floor(times.length / 2)]!;
  const { layers, head } = flopsPerToken(config);
  const flops = flags.batchSize * (flags.inputLen * layers + head);
  const lines = [share("Prefill", flops / middle.prefillS, productsPerS(config, roofs), "GFLOP/s")];
  if (flags.outputLen > 1) {
    const bytes = runtime.workers.ready.weightBytes * config.parallel.tensorParallelSize;
    const perStepS = (middle.wallS - middle.prefillS) / (flags.outputLen - 1);
    lines.push(share("Decode, weights read", bytes / perStepS, roofs.readBytesPerS, "GB/s"));
  }
  return lines.join("\n");
}

/** A rate and its share of the roof. */
export function share(label: string, rate: number, roof: number, unit: string): string {
  const percent = ((100 * rate) / roof).toFixed(0);
  return row(`${label} (${unit}):`, `${(rate / 1e9).toFixed(2)} (${percent} % of the roof)`);
}
