import { type EngineConfig, resolveEngineConfig } from "../config/index.js";
import { UcmError } from "../errors/index.js";
import { configureLog, log } from "../log/index.js";
import type { Tokenizer } from "../tokenizer/index.js";
import { type EngineRuntime, openTokenizer, startEngine } from "./engine-runtime.js";
import type { Flags } from "./flags/index.js";
import type { Invocation } from "./invocation.js";
import { createProgressBar } from "./load-progress.js";
import { type LocatedModel, locateModel } from "./model-files.js";
import { type OfflineOutput, openRecordFile, textOutput } from "./offline-output.js";
import { type OfflinePrompt, readPrompts } from "./offline-prompts.js";
import { type OfflineRequest, prepareRequest, samplingFieldsOf } from "./offline-request.js";
import { runRequests } from "./offline-run.js";
import { OfflineSummary } from "./offline-summary.js";
import { demoModelPath } from "./package-files.js";
import { readChatTemplate } from "./server-options.js";
import { type StopRequest, watchStopSignals } from "./stop-signals.js";

const INTERRUPTED = 130;

/**
 * `ucm offline`: all prompts are read and checked before the model is loaded; answers go to stdout or
 * --output-file in order, everything else to stderr. Exit code 1 when a prompt failed, 130 when
 * interrupted.
 */
export async function runOffline({ flags, warnings }: Invocation<"offline">): Promise<number> {
  const isVerbose = process.env.UCM_LOGGING_LEVEL ?? process.env.VLLM_LOGGING_LEVEL;
  configureLog({ stream: process.stderr, ...(isVerbose ? {} : { level: "WARNING" }) });
  for (const warning of warnings) log.warning(warning);
  const prompts = readPrompts(flags.prompt ?? [], flags.promptFile);
  const stop = watchStopSignals();
  let job: Job | null = null;
  try {
    job = await prepareJob(flags, prompts, stop);
    return await generateAll(job);
  } catch (error) {
    if (stop.signal.aborted && error === stop.signal.reason) return INTERRUPTED;
    throw error;
  } finally {
    job?.output.close();
    stop.forget();
  }
}

/** Checks everything that can be checked without the model's weights. */
async function prepareJob(
  flags: Flags,
  prompts: readonly OfflinePrompt[],
  stop: StopRequest,
): Promise<Job> {
  const located = await locateModel(flags, flags.model ?? demoModelPath(), stop.signal);
  const config = resolveEngineConfig(offlineOptions(flags, located, prompts.length));
  const tokenizer = await openTokenizer(config);
  const context = {
    config,
    tokenizer,
    chatTemplate: readChatTemplate(flags.chatTemplate),
    flagFields: samplingFieldsOf(flags),
  };
  const requests = prompts.map((prompt, index) => prepareRequest(prompt, index, context));
  const output =
    flags.outputFile === null
      ? textOutput(process.stdout, tokenizer !== null)
      : openRecordFile(flags.outputFile, tokenizer);
  process.stdout.once("error", (error) => stop.leave(reportLostOutput(error)));
  return { flags, config, tokenizer, requests, output, stop };
}

/** The exit code once answers cannot be printed. A reader that has left, as `head` does, is no error. */
function reportLostOutput({ code, message }: NodeJS.ErrnoException): number {
  if (code === "EPIPE") return 0;
  const error = new UcmError("UCM_ERR_OUTPUT_FILE", `Cannot write standard output: ${message}.`);
  process.stderr.write(`ucm offline: error: ${error.message}\n`);
  return error.exitCode;
}

/** No more sequences than prompts need: it decides how large the KV cache gets. */
function offlineOptions(flags: Flags, located: LocatedModel, numPrompts: number) {
  const wanted = Math.min(256, numPrompts * Math.max(1, flags.n ?? 1));
  return {
    ...flags,
    ...located,
    maxNumSeqs: flags.maxNumSeqs ?? wanted,
    // The number of prompts in the engine is bounded here.
    maxNumQueuedReqs: Number.MAX_SAFE_INTEGER,
  };
}

interface Job {
  flags: Flags;
  config: EngineConfig;
  tokenizer: Tokenizer | null;
  requests: readonly OfflineRequest[];
  output: OfflineOutput;
  stop: StopRequest;
}

async function generateAll(job: Job): Promise<number> {
  const { flags, config, tokenizer, stop } = job;
  const loadStartMs = performance.now();
  const runtime = await startEngine(config, tokenizer, {
    signal: stop.signal,
    showProgress: flags.useTqdmOnLoad,
  });
  stop.onSecond(() => runtime.workers.kill());
  const loadMs = performance.now() - loadStartMs;
  try {
    const { summary, wallMs } = await generate(job, runtime);
    process.stderr.write(
      `\n${summary.render(job.requests.length, wallMs, loadMs, runtime.engine.stats().sparse)}\n`,
    );
    if (stop.signal.aborted) return INTERRUPTED;
    if (summary.numFailed > 0) return 1;
    if (flags.model === null) process.stderr.write(`\n${whatNext}\n`);
    return 0;
  } finally {
    await runtime.stop();
  }
}

async function generate({ flags, requests, output, stop }: Job, { engine }: EngineRuntime) {
  const summary = new OfflineSummary();
  // A bar would run into text that appears on the same terminal.
  const bar = createProgressBar(flags.outputFile !== null || !process.stdout.isTTY);
  const startMs = performance.now();
  bar.update(0, requests.length, "Prompts");
  try {
    await runRequests(engine, requests, flags.maxConcurrentPrompts, stop.signal, {
      onText: ({ index }, text) => output.addText(index, text),
      onResult(result) {
        output.finish(result);
        summary.add(result);
        bar.update(summary.numDone, requests.length, "Prompts");
      },
    });
  } finally {
    bar.stop();
  }
  return { summary, wallMs: performance.now() - startMs };
}

const whatNext = `Try next:
  node bin/ucm.js offline --prompt "Once upon a time" --max-tokens 64
  node bin/ucm.js serve models/ucm-demo      then: curl http://localhost:8000/v1/models
  node bin/ucm.js offline /path/to/a/model --prompt-file prompts.jsonl --output-file answers.jsonl
  node bin/ucm.js offline --help`;
