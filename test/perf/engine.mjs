import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { measureRoofs } from "../../dist/cli/bench/roofs.js";
import { readCommandLine } from "../../dist/cli/command-flags.js";
import { resolveEngineConfig } from "../../dist/config/index.js";
import { Engine } from "../../dist/engine/index.js";
import { launchWorkers } from "../../dist/launcher/index.js";
import { defaultSamplingParams } from "../../dist/messages/index.js";
import { qwen25Half } from "./shapes.mjs";

export { median } from "./statistics.mjs";

/** Distinct random tokens, so that no cache could help. */
export function randomPrompt(length) {
  return Array.from({ length }, () => Math.floor(Math.random() * qwen25Half.vocab_size));
}

/** A folder with the shape of a model, but no weights. */
function makeDummyModel() {
  const folder = mkdtempSync(join(tmpdir(), "ucm-perf-"));
  writeFileSync(join(folder, "config.json"), JSON.stringify(qwen25Half));
  return folder;
}

/**
 * An engine over a worker process, on flags of `ucm`: of the model in a folder, or with random weights of
 * Qwen2.5-0.5B's shape. `wrap` comes between it and its workers, `adapt` between the flags' configuration
 * and the engine's.
 */
export async function startEngine(
  args,
  { model = null, wrap = (executor) => executor, adapt = (config) => config } = {},
) {
  const temporary = model === null ? makeDummyModel() : null;
  const folder = model ?? temporary;
  const dummy = model === null ? ["--load-format", "dummy"] : [];
  const { flags } = await readCommandLine(
    "offline",
    [folder, ...dummy, "--skip-tokenizer-init", ...args],
    { env: process.env, cwd: tmpdir() },
  );
  const config = adapt(resolveEngineConfig({ ...flags, model: folder }));
  const workers = await launchWorkers(config);
  const engine = new Engine({ config, executor: wrap(workers.executor), tokenizer: null });
  return {
    config,
    engine,
    ready: workers.ready,
    async stop() {
      await engine.stop();
      await workers.shutdown();
      if (temporary !== null) rmSync(temporary, { recursive: true });
    },
  };
}

/** Time to first token and mean time per further token of one greedy request, ms, and its answer. */
export async function measure(engine, promptTokenIds, maxTokens) {
  const sampling = { ...defaultSamplingParams, temperature: 0, ignoreEos: true, maxTokens };
  const request = {
    requestId: "perf",
    promptTokenIds,
    sampling,
    priority: 0,
    cacheSalt: null,
    detokenize: false,
  };
  const tokenIds = [];
  let last;
  for await (const output of engine.generate(request)) {
    last = output;
    tokenIds.push(...output.delta.tokenIds);
  }
  const { times, numCachedTokens } = last;
  return {
    ttftMs: times.firstTokenMs - times.arrivalMs,
    tpotMs: (times.lastTokenMs - times.firstTokenMs) / Math.max(1, maxTokens - 1),
    numCachedTokens,
    tokenIds,
  };
}

/** What the machine can do right now on so many threads, as a line for people. */
export async function roofLine(threads) {
  const { isa, readBytesPerS, fp32FlopsPerS, bf16FlopsPerS, int8OpsPerS } =
    await measureRoofs(threads);
  const rates = [
    `reads ${(readBytesPerS / 1e9).toFixed(1)} GB/s`,
    `fp32 ${(fp32FlopsPerS / 1e9).toFixed(0)} GFLOP/s`,
    ...(bf16FlopsPerS === 0 ? [] : [`bf16 ${(bf16FlopsPerS / 1e9).toFixed(0)} GFLOP/s`]),
    ...(int8OpsPerS === 0 ? [] : [`int8 ${(int8OpsPerS / 1e9).toFixed(0)} GOP/s`]),
  ];
  return `${rates.join(", ")} of ${isa} on ${threads} threads`;
}
