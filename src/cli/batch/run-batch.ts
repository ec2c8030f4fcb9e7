import { resolveEngineConfig } from "../../config/index.js";
import { UcmError } from "../../errors/index.js";
import { configureLog, log } from "../../log/index.js";
import { createApp } from "../../server/index.js";
import { openTokenizer, startEngine } from "../engine-runtime.js";
import type { Invocation } from "../invocation.js";
import { createProgressBar } from "../load-progress.js";
import { locateModel } from "../model-files.js";
import { readVersion } from "../package-files.js";
import { serverLogLevel, serverOptions } from "../server-options.js";
import { startStatsLog } from "../stats-log.js";
import { watchStopSignals } from "../stop-signals.js";
import {
  answerRecord,
  type BatchRecord,
  type BatchRequest,
  parseBatch,
  refusalRecord,
} from "./batch-file.js";
import { type BatchOutput, openOutput, readInput } from "./batch-transfer.js";

/** Routes that a batch may ask. */
const routes = ["/v1/chat/completions", "/v1/completions"];

/** Requests handed to the engine at a time; it queues what it cannot run yet. */
const LANES = 512;

type App = ReturnType<typeof createApp>;

/**
 * `ucm run-batch`: answers an OpenAI batch file through the server's own routes, without a port. Records
 * are written in the order of the requests as they become due. Exit code 0 though requests failed, as
 * their records say so; 130 when interrupted.
 */
export async function runBatch({ flags, warnings }: Invocation<"run-batch">): Promise<number> {
  configureLog({ serverLevel: serverLogLevel(flags) });
  const { inputFile, outputFile, model } = flags;
  if (inputFile === null || outputFile === null || model === null) {
    const required = {
      "-i/--input-file": inputFile,
      "-o/--output-file": outputFile,
      "--model": model,
    };
    const missing = Object.entries(required).filter(([, value]) => value === null);
    throw new UcmError(
      "UCM_ERR_USAGE",
      `the following arguments are required: ${missing.map(([name]) => name).join(", ")}`,
    );
  }
  for (const warning of warnings) log.warning(warning);
  const stop = watchStopSignals();
  let output: BatchOutput | null = null;
  try {
    const requests = parseBatch(await readInput(inputFile, stop.signal), inputFile);
    output = openOutput(outputFile, flags.outputTmpDir);
    const located = await locateModel(flags, model, stop.signal);
    const config = resolveEngineConfig({
      ...flags,
      ...located,
      maxNumQueuedReqs: Number.MAX_SAFE_INTEGER,
    });
    const tokenizer = await openTokenizer(config);
    const {
      engine,
      workers,
      stop: stopEngine,
    } = await startEngine(config, tokenizer, {
      signal: stop.signal,
      showProgress: flags.useTqdmOnLoad,
    });
    stop.onSecond(() => workers.kill());
    const stopStats = flags.disableLogStats ? () => {} : startStatsLog(engine, process.env);
    try {
      const options = { ...serverOptions(flags, readVersion(), process.env), apiKeys: [] };
      const app = createApp({
        engine,
        tokenizer,
        config,
        options: { ...options, accessLog: false },
      });
      void stop.requested.then(() => engine.stop());
      await answerAll(app, requests, output.write, stop.signal);
      if (stop.signal.aborted) return 130;
    } finally {
      stopStats();
      await stopEngine();
    }
    await output.finish(stop.signal);
    return 0;
  } catch (error) {
    if (stop.signal.aborted && error === stop.signal.reason) return 130;
    throw error;
  } finally {
    output?.close();
    stop.forget();
  }
}

async function answerAll(
  app: App,
  requests: readonly BatchRequest[],
  write: (record: BatchRecord) => void,
  signal: AbortSignal,
): Promise<void> {
  const bar = createProgressBar(true);
  const records: (BatchRecord | undefined)[] = [];
  let numDone = 0;
  let numWritten = 0;
  const queue = requests.entries();
  const lane = async () => {
    for (const [index, request] of queue) {
      if (signal.aborted) return;
      records[index] = await answerOne(app, request);
      numDone += 1;
      bar.update(numDone, requests.length, "Running batch");
      for (let due = records[numWritten]; due !== undefined; due = records[numWritten]) {
        write(due);
        delete records[numWritten];
        numWritten += 1;
      }
    }
  };
  await Promise.all(Array.from({ length: Math.min(LANES, requests.length) }, lane));
  bar.stop();
}

async function answerOne(app: App, request: BatchRequest): Promise<BatchRecord> {
  if (!routes.includes(request.url) || request.method !== "POST") {
    const supported = routes.join(", ");
    return refusalRecord(
      request,
      `URL ${request.url} was used. Supported endpoints: POST to ${supported}.`,
    );
  }
  if (request.body.stream === true) {
    return refusalRecord(request, "Request must not be sent in stream mode");
  }
  const { statusCode, body } = await app.inject({
    method: "POST",
    url: request.url,
    payload: request.body,
  });
  return answerRecord(request, statusCode, JSON.parse(body));
}
