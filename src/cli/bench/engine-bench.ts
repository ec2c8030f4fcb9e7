import type { EngineConfig } from "../../config/engine-config.js";
import { resolveEngineConfig } from "../../config/index.js";
import { buildSamplingParams, type RequestTimes } from "../../engine/index.js";
import { UcmError } from "../../errors/index.js";
import { configureLog, log } from "../../log/index.js";
import { loadModelConfig } from "../../model/hf-config.js";
import { headSpec } from "../../model/tensor-names.js";
import { estimateWeightBytes } from "../../model/weight-size.js";
import { type EngineRuntime, openTokenizer, startEngine } from "../engine-runtime.js";
import type { Flags } from "../flags/index.js";
import { locateModel } from "../model-files.js";
import { watchStopSignals } from "../stop-signals.js";
import type { RandomSource } from "./random-source.js";

/** A loaded model under measurement. */
export interface EngineBench {
  config: EngineConfig;
  runtime: EngineRuntime;
  /** Aborted by SIGINT and SIGTERM. */
  signal: AbortSignal;
}

/**
 * Loads the model, hands it to `measure` and stops the workers. Log lines go to standard error, as
 * standard output is the report's. Exit code 130 when interrupted.
 */
export async function withEngine(
  flags: Flags & { disableDetokenize: boolean },
  warnings: readonly string[],
  measure: (bench: EngineBench) => Promise<void>,
): Promise<number> {
  configureLog({ stream: process.stderr });
  for (const warning of warnings) log.warning(warning);
  if (flags.model === null) {
    throw new UcmError("UCM_ERR_USAGE", "the following arguments are required: --model");
  }
  const stop = watchStopSignals();
  try {
    const config = resolveEngineConfig({
      ...flags,
      ...(await locateModel(flags, flags.model, stop.signal)),
      maxNumQueuedReqs: Number.MAX_SAFE_INTEGER,
    });
    const tokenizer = flags.disableDetokenize ? null : await openTokenizer(config);
    const runtime = await startEngine(config, tokenizer, {
      signal: stop.signal,
      showProgress: flags.useTqdmOnLoad,
    });
    stop.onSecond(() => runtime.workers.kill());
    try {
      await measure({ config, runtime, signal: stop.signal });
    } finally {
      await runtime.stop();
    }
    return stop.signal.aborted ? 130 : 0;
  } catch (error) {
    if (stop.signal.aborted && error === stop.signal.reason) return 130;
    throw error;
  } finally {
    stop.forget();
  }
}

/** Token ids anywhere in the vocabulary. */
export function randomPrompt(length: number, vocabSize: number, random: RandomSource): number[] {
  return Array.from({ length }, () => random.integer(0, vocabSize - 1));
}

/** Runs one prompt to exactly `outputLen` tokens per sequence; T = 1 and no end of sequence. */
export async function generateOne(
  { config, runtime, signal }: EngineBench,
  prompt: { id: string; tokenIds: number[]; outputLen: number; n: number; detokenize: boolean },
): Promise<RequestTimes> {
  const { n, outputLen } = prompt;
  const fields = { n, temperature: 1, top_p: 1, ignore_eos: true, max_tokens: outputLen };
  const outputs = runtime.engine.generate(
    {
      requestId: prompt.id,
      promptTokenIds: prompt.tokenIds,
      sampling: buildSamplingParams(fields, config.model, prompt.tokenIds.length),
      priority: 0,
      cacheSalt: null,
      detokenize: prompt.detokenize,
    },
    signal,
  );
  let times: RequestTimes = { arrivalMs: 0, scheduledMs: 0, firstTokenMs: 0, lastTokenMs: 0 };
  for await (const output of outputs) times = output.times;
  return times;
}

/** Multiply-adds of one token, two operations each: the layers' matrices, and the head's. */
export function flopsPerToken(config: EngineConfig): { layers: number; head: number } {
  const model = loadModelConfig(config.model.path, config.model.hfOverrides);
  const { rows, cols } = headSpec(model);
  const elements = estimateWeightBytes(model, null) / Float32Array.BYTES_PER_ELEMENT;
  return { layers: 2 * (elements - rows * cols), head: 2 * rows * cols };
}
