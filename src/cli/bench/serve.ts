import { randomBytes } from "node:crypto";
import { setTimeout as delay } from "node:timers/promises";
import { UcmError } from "../../errors/index.js";
import { loadTokenizer, type Tokenizer } from "../../tokenizer/index.js";
import { expectSuccess, readBody, sendRequest } from "../client/http-client.js";
import type { FlagsOf } from "../flags/index.js";
import type { Invocation } from "../invocation.js";
import { createProgressBar } from "../load-progress.js";
import { pythonRepr } from "../python-repr.js";
import { watchStopSignals } from "../stop-signals.js";
import { planArrivals } from "./arrivals.js";
import { makeRequests, type SampleRequest } from "./datasets.js";
import { RandomSource } from "./random-source.js";
import { measureRoofs, renderRoofs } from "./roofs.js";
import { computeMetrics } from "./serve-metrics.js";
import { type BenchPlan, planBench } from "./serve-plan.js";
import { renderServeReport } from "./serve-report.js";
import { saveResult } from "./serve-result.js";
import { type RequestOutcome, type RequestTarget, sendTimedRequest } from "./timed-request.js";

type Flags = FlagsOf<"bench serve">;

const print = (line: string) => process.stdout.write(`${line}\n`);

/**
 * `ucm bench serve`: sends a workload to a running server and prints vLLM's table, and below it the
 * roofs of this machine, measured after the run. Exit code 1 when every request failed, 130 when
 * interrupted.
 */
export async function runBenchServe({ flags }: Invocation<"bench serve">): Promise<number> {
  const plan = planBench(flags, process.env);
  print(namespaceOf(flags));
  const { model, root } = await findModel(flags, plan);
  const tokenizer = await openTokenizer(flags.tokenizer ?? root);
  const requests = makeRequests(flags, tokenizer, new RandomSource(flags.seed));
  const target: RequestTarget = { ...plan.target, model: flags.servedModelName ?? model };
  const stop = watchStopSignals();
  try {
    await prepare(flags, target, requests[0]!, stop.signal);
    const { outcomes, durationS } = await sendAll(flags, plan, target, requests, stop.signal);
    if (stop.signal.aborted) return 130;
    const { metrics, outputLens } = computeMetrics(outcomes, durationS, {
      percentiles: plan.report.percentiles,
      goodput: plan.goodput,
      countTokens: (text) => tokenizer.encode(text, { addSpecialTokens: false }).length,
    });
    tellErrors(outcomes);
    print(renderServeReport(metrics, plan.report));
    print(renderRoofs(await measureRoofs(null)));
    saveResult({
      flags,
      plan,
      model,
      tokenizerPath: flags.tokenizer ?? root,
      metrics,
      outcomes,
      outputLens,
    });
    return metrics.completed === 0 ? 1 : 0;
  } finally {
    stop.forget();
  }
}

/** The flags as Python's argparse prints them. */
function namespaceOf(flags: Flags): string {
  const items = Object.entries(flags).map(
    ([name, value]) =>
      `${name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`)}=${pythonRepr(value)}`,
  );
  return `Namespace(${items.join(", ")})`;
}

/** The model to ask for, and where its files are as far as the server tells. */
async function findModel(flags: Flags, { baseUrl, target }: BenchPlan) {
  const { headers, insecure } = target;
  if (flags.model !== null && flags.tokenizer !== null) return { model: flags.model, root: "" };
  const response = await sendRequest(`${baseUrl}/v1/models`, { headers, insecure });
  const { data } = JSON.parse(await readBody(await expectSuccess(response))) as {
    data: { id: string; root?: string }[];
  };
  const found = data.find(({ id }) => id === flags.model) ?? data[0];
  if (found === undefined) {
    throw new UcmError("UCM_ERR_REMOTE", `The server at ${baseUrl} lists no model.`);
  }
  return { model: flags.model ?? found.id, root: found.root ?? found.id };
}

async function openTokenizer(path: string): Promise<Tokenizer> {
  try {
    return await loadTokenizer(path);
  } catch (cause) {
    throw new UcmError(
      "UCM_ERR_TOKENIZER",
      `No tokenizer is at ${path}, which prompts of a known length need: give its folder with --tokenizer.`,
      { cause },
    );
  }
}

const READY_PAUSE_MS = 1000;

/** The test request, if asked for, and the warm-up. */
async function prepare(
  flags: Flags,
  target: RequestTarget,
  sample: SampleRequest,
  signal: AbortSignal,
): Promise<void> {
  print("Starting initial single prompt test run...");
  if (flags.readyCheckTimeoutSec === 0) {
    print("Skipping endpoint ready check.");
  } else {
    await waitUntilReady(flags.readyCheckTimeoutSec, target, sample, signal);
    print("Initial test run completed. Starting main benchmark run...");
  }
  if (flags.numWarmups > 0) {
    print(`Warming up with ${flags.numWarmups} requests...`);
    const warmups = Array.from({ length: flags.numWarmups }, (_, index) =>
      sendTimedRequest(target, sample, `warmup-${index}`, signal),
    );
    await Promise.all(warmups);
    print("Warmup run completed.");
  }
}

async function waitUntilReady(
  timeoutS: number,
  target: RequestTarget,
  sample: SampleRequest,
  signal: AbortSignal,
): Promise<void> {
  const deadline = performance.now() + timeoutS * 1000;
  for (;;) {
    const { error } = await sendTimedRequest(target, sample, "test", signal);
    if (error === null || signal.aborted) return;
    if (performance.now() > deadline) {
      throw new UcmError(
        "UCM_ERR_REMOTE",
        `Initial test run failed - Please make sure benchmark arguments are correctly specified. Error: ${error}`,
      );
    }
    await delay(READY_PAUSE_MS);
  }
}

/** Sends each request at its time, with at most --max-concurrency in flight. */
async function sendAll(
  flags: Flags,
  plan: BenchPlan,
  target: RequestTarget,
  requests: readonly SampleRequest[],
  signal: AbortSignal,
): Promise<{ outcomes: RequestOutcome[]; durationS: number }> {
  const traced = tracedArrivals(requests, plan);
  announce(flags, traced !== null);
  const arrivals =
    traced ?? planArrivals(requests.length, plan.arrivals, new RandomSource(flags.seed + 1));
  const prefix = flags.requestIdPrefix ?? `bench-${randomBytes(4).toString("hex")}-`;
  const gate = new Gate(flags.maxConcurrency ?? Number.POSITIVE_INFINITY);
  const bar = createProgressBar(!flags.disableTqdm);
  let numDone = 0;
  const startMs = performance.now();
  const pending: Promise<RequestOutcome>[] = [];
  for (const [index, sample] of requests.entries()) {
    const waitMs = startMs + arrivals[index]! * 1000 - performance.now();
    if (waitMs > 0) await delay(waitMs, undefined, { signal }).catch(() => {});
    if (signal.aborted) break;
    const sent = gate.pass(() => sendTimedRequest(target, sample, `${prefix}${index}`, signal));
    pending.push(
      sent.finally(() => {
        numDone += 1;
        bar.update(numDone, requests.length, "Requests");
      }),
    );
  }
  const outcomes = await Promise.all(pending);
  bar.stop();
  return { outcomes, durationS: (performance.now() - startMs) / 1000 };
}

/** The times of a trace, where no other pace is asked for. */
function tracedArrivals(requests: readonly SampleRequest[], { arrivals }: BenchPlan) {
  if (arrivals.rampUp !== null || arrivals.rate !== Number.POSITIVE_INFINITY) return null;
  const times = requests.flatMap(({ arrivalS }) => (arrivalS === undefined ? [] : [arrivalS]));
  return times.length === requests.length ? times : null;
}

function announce({ rampUpStrategy, ...flags }: Flags, isTraced: boolean): void {
  print("Starting main benchmark run...");
  if (isTraced) {
    print(`Traffic: at the times of the trace, times ${flags.mooncakeTimeScale}`);
    print(`Maximum request concurrency: ${pythonRepr(flags.maxConcurrency)}`);
    return;
  }
  if (rampUpStrategy === null) {
    print(`Traffic request rate: ${pythonRepr(flags.requestRate)}`);
  } else {
    print(
      `Traffic ramp-up strategy: ${rampUpStrategy}. Will increase RPS from ${flags.rampUpStartRps} to ${flags.rampUpEndRps} RPS over the duration of the benchmark.`,
    );
  }
  const distribution = flags.burstiness === 1 ? "Poisson process" : "Gamma distribution";
  const burstiness = Number.isInteger(flags.burstiness)
    ? flags.burstiness.toFixed(1)
    : pythonRepr(flags.burstiness);
  print(`Burstiness factor: ${burstiness} (${distribution})`);
  print(`Maximum request concurrency: ${pythonRepr(flags.maxConcurrency)}`);
}

/** Lets a number of tasks run at a time, the others in order. */
class Gate {
  #free: number;
  readonly #waiting: (() => void)[] = [];

  constructor(limit: number) {
    this.#free = limit;
  }

  async pass<T>(task: () => Promise<T>): Promise<T> {
    if (this.#free > 0) this.#free -= 1;
    else await new Promise<void>((resolve) => this.#waiting.push(resolve));
    try {
      return await task();
    } finally {
      const next = this.#waiting.shift();
      if (next === undefined) this.#free += 1;
      else next();
    }
  }
}

const ERRORS_SHOWN_MAX = 3;

function tellErrors(outcomes: readonly RequestOutcome[]): void {
  const errors = new Set(outcomes.flatMap(({ error }) => (error === null ? [] : [error])));
  for (const error of [...errors].slice(0, ERRORS_SHOWN_MAX)) {
    process.stderr.write(`failed request: ${error}\n`);
  }
  if (outcomes.every(({ error }) => error !== null)) {
    process.stderr.write(
      "All requests failed. This is likely due to a misconfiguration on the benchmark arguments.\n",
    );
  }
}
