import type { EngineConfig } from "../../../src/config/engine-config.js";
import { Engine } from "../../../src/engine/index.js";
import type { GenerateOutput, GenerateRequest } from "../../../src/engine/types.js";
import { defaultSamplingParams, type SamplingParams } from "../../../src/messages/index.js";
import type { NextToken } from "../scheduler/simulated-worker.js";
import { ByteTokenizer } from "./byte-tokenizer.js";
import { SimulatedExecutor } from "./simulated-executor.js";

export function makeConfig(
  tokenizer: ByteTokenizer,
  changes: {
    model?: Partial<EngineConfig["model"]>;
    cache?: Partial<EngineConfig["cache"]>;
    scheduler?: Partial<EngineConfig["scheduler"]>;
  } = {},
): EngineConfig {
  return {
    model: {
      path: "/models/none",
      tag: "none",
      servedNames: ["none"],
      tokenizerPath: null,
      loadFormat: "auto",
      dtype: "auto",
      quantization: null,
      hfOverrides: {},
      vocabSize: tokenizer.vocabSize,
      maxModelLen: 64,
      eosTokenIds: [tokenizer.eosTokenId],
      defaultSampling: {},
      maxLogprobs: 20,
      seed: 0,
      ...changes.model,
    },
    cache: {
      blockSize: 4,
      kvDtype: "float32",
      numBlocks: 64,
      kvBytes: 0,
      enablePrefixCaching: true,
      blockHashSeed: null,
      ...changes.cache,
    },
    store: null,
    sparse: null,
    profilePath: null,
    scheduler: {
      maxNumSeqs: 8,
      maxNumBatchedTokens: 16,
      enableChunkedPrefill: true,
      longPrefillTokenThreshold: 0,
      policy: "fcfs",
      maxNumQueuedRequests: 100,
      ...changes.scheduler,
    },
    parallel: { tensorParallelSize: 1, threads: 1, cores: [], workerTimeoutMs: 60_000 },
  };
}

export interface Bench {
  engine: Engine;
  executor: SimulatedExecutor;
  tokenizer: ByteTokenizer;
  config: EngineConfig;
}

/** An engine over a simulated worker. */
export function makeBench(
  options: Parameters<typeof makeConfig>[1] & {
    pieces?: string[];
    nextToken?: NextToken;
    clock?: () => number;
  } = {},
): Bench {
  const tokenizer = new ByteTokenizer(options.pieces);
  const config = makeConfig(tokenizer, options);
  const executor = new SimulatedExecutor(config, options.nextToken);
  const clock = options.clock === undefined ? {} : { clock: options.clock };
  return {
    engine: new Engine({ config, executor, tokenizer, ...clock }),
    executor,
    tokenizer,
    config,
  };
}

/** A model that says these tokens, whatever the prompt, and then the last one for ever. */
export function says(tokenIds: readonly number[]): NextToken {
  return (known, promptLength) => tokenIds[known.length - promptLength] ?? tokenIds.at(-1)!;
}

export function makeRequest(
  sampling: Partial<SamplingParams> = {},
  changes: Partial<GenerateRequest> = {},
): GenerateRequest {
  return {
    requestId: "test",
    promptTokenIds: [1, 2, 3],
    sampling: { ...defaultSamplingParams, ...sampling },
    priority: 0,
    cacheSalt: null,
    detokenize: true,
    ...changes,
  };
}

export async function collect(stream: AsyncIterable<GenerateOutput>): Promise<GenerateOutput[]> {
  const outputs: GenerateOutput[] = [];
  for await (const output of stream) outputs.push(output);
  return outputs;
}

/** The whole of one sequence from its deltas. */
export function joinDeltas(outputs: readonly GenerateOutput[], index = 0) {
  const deltas = outputs.map(({ delta }) => delta).filter((delta) => delta.index === index);
  const { finishReason, stopReason } = deltas.at(-1)!;
  return {
    text: deltas.map(({ text }) => text).join(""),
    tokenIds: deltas.flatMap(({ tokenIds }) => tokenIds),
    finishReason,
    stopReason,
  };
}
