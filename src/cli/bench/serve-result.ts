import { appendFileSync, mkdirSync, writeFileSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { UcmError } from "../../errors/index.js";
import type { FlagsOf } from "../flags/index.js";
import type { ServeMetrics } from "./serve-metrics.js";
import type { BenchPlan } from "./serve-plan.js";
import { resultOf } from "./serve-report.js";
import type { RequestOutcome } from "./timed-request.js";

export interface FinishedRun {
  flags: FlagsOf<"bench serve">;
  plan: BenchPlan;
  model: string;
  tokenizerPath: string;
  metrics: ServeMetrics;
  outcomes: readonly RequestOutcome[];
  /** Tokens of each outcome. */
  outputLens: readonly number[];
}

/** Writes the JSON of a run under vLLM's keys and file name, if asked to. UCM_ERR_OUTPUT_FILE. */
export function saveResult(run: FinishedRun): void {
  const { flags } = run;
  if (!flags.saveResult && !flags.appendResult) return;
  const now = new Date();
  const path = resultPath(run, now);
  const text = `${JSON.stringify(describeRun(run, now))}\n`;
  try {
    mkdirSync(dirname(path), { recursive: true });
    if (flags.appendResult) appendFileSync(path, text);
    else writeFileSync(path, text);
  } catch (cause) {
    throw new UcmError(
      "UCM_ERR_OUTPUT_FILE",
      `Cannot write the result file ${path}: ${(cause as Error).message}.`,
      { cause },
    );
  }
}

/** `{label}-{rate}qps[-concurrencyN]-{model}-{time}.json`, unless a name is given. */
export function resultPath({ flags, model }: FinishedRun, now: Date): string {
  const folder = flags.resultDir ?? ".";
  if (flags.resultFilename !== null) return join(folder, flags.resultFilename);
  const { requestRate, rampUpStrategy, maxConcurrency } = flags;
  const rate =
    rampUpStrategy !== null
      ? `ramp-up-${rampUpStrategy}-${flags.rampUpStartRps}qps-${flags.rampUpEndRps}qps`
      : `${requestRate === Number.POSITIVE_INFINITY ? "inf" : requestRate}qps`;
  const concurrency = maxConcurrency === null ? "" : `-concurrency${maxConcurrency}`;
  const label = flags.label ?? flags.backend;
  return join(folder, `${label}-${rate}${concurrency}-${basename(model)}-${stamp(now)}.json`);
}

function stamp(date: Date): string {
  const two = (value: number) => String(value).padStart(2, "0");
  const day = `${date.getFullYear()}${two(date.getMonth() + 1)}${two(date.getDate())}`;
  return `${day}-${two(date.getHours())}${two(date.getMinutes())}${two(date.getSeconds())}`;
}

function describeRun(run: FinishedRun, now: Date): Record<string, unknown> {
  const { flags, plan, model, tokenizerPath, metrics, outcomes, outputLens } = run;
  const rate = flags.requestRate;
  return {
    date: stamp(now),
    endpoint_type: flags.backend,
    backend: flags.backend,
    label: flags.label,
    model_id: model,
    tokenizer_id: tokenizerPath,
    num_prompts: flags.numPrompts,
    ...plan.metadata,
    request_rate: rate === Number.POSITIVE_INFINITY ? "inf" : rate,
    burstiness: flags.burstiness,
    max_concurrency: flags.maxConcurrency,
    ...resultOf(metrics, plan.report),
    ...(flags.saveDetailed ? details(outcomes, outputLens) : {}),
  };
}

function details(outcomes: readonly RequestOutcome[], outputLens: readonly number[]) {
  return {
    input_lens: outcomes.map(({ promptLen }) => promptLen),
    output_lens: outputLens,
    ttfts: outcomes.map(({ ttftS }) => ttftS),
    itls: outcomes.map(({ itlS }) => itlS),
    start_times: outcomes.map(({ startS }) => startS),
    generated_texts: outcomes.map(({ text }) => text),
    errors: outcomes.map(({ error }) => error ?? ""),
  };
}
