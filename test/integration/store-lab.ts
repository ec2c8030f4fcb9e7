import { fileURLToPath } from "node:url";
import type { EngineConfig } from "../../src/config/engine-config.js";
import { Engine, type GenerateRequest, StoreReports } from "../../src/engine/index.js";
import { launchWorkers } from "../../src/launcher/index.js";
import {
  defaultSamplingParams,
  type SamplingParams,
  type SparseConfig,
  type StoreConfig,
} from "../../src/messages/index.js";
import { makeFolder, tinyConfig } from "../helpers/checkpoint.js";
import { testEngineConfig, testSparseConfig, testStoreConfig } from "../helpers/engine-config.js";

export const BLOCK = 16;

const builtWorker = fileURLToPath(new URL("../../dist/worker/main.js", import.meta.url));
const modelPath = makeFolder({ "config.json": JSON.stringify(tinyConfig) });

export interface ServerChanges {
  model?: Partial<EngineConfig["model"]>;
  cache?: Partial<EngineConfig["cache"]>;
  scheduler?: Partial<EngineConfig["scheduler"]>;
  tensorParallelSize?: number;
  /** Null is a server without a store. */
  store: Partial<StoreConfig> | null;
  /** Left out for dense attention. */
  sparse?: Partial<SparseConfig>;
}

/** An engine and its worker processes. */
export interface LabServer {
  engine: Engine;
  stop(): Promise<void>;
  kill(): void;
}

/** Starts an engine over workers of its own, with random weights. */
export async function startServer({
  store,
  sparse,
  tensorParallelSize = 1,
  ...changes
}: ServerChanges): Promise<LabServer> {
  const base = testEngineConfig({
    path: modelPath,
    loadFormat: "dummy",
    vocabSize: tinyConfig.vocab_size,
    maxModelLen: 1024,
  });
  const cache = { ...base.cache, blockSize: BLOCK, numBlocks: 64, ...changes.cache };
  const elementBytes = cache.kvDtype === "float32" ? 4 : 2;
  const kvHeads = 2 / tensorParallelSize;
  const bytesPerBlock = 2 * 2 * kvHeads * 32 * cache.blockSize * elementBytes;
  const config: EngineConfig = {
    ...base,
    model: { ...base.model, ...changes.model },
    cache: { ...cache, kvBytes: cache.numBlocks * bytesPerBlock },
    scheduler: { ...base.scheduler, maxNumSeqs: 16, ...changes.scheduler },
    parallel: { ...base.parallel, tensorParallelSize },
    store: store === null ? null : { ...testStoreConfig, ...store },
    sparse: sparse === undefined ? null : { ...testSparseConfig, ...sparse },
  };
  const storeReports = new StoreReports();
  const workers = await launchWorkers(config, {
    workerEntry: builtWorker,
    onStoreReport: (rank, report) => storeReports.receive(rank, report),
  });
  const engine = new Engine({ config, executor: workers.executor, tokenizer: null, storeReports });
  return {
    engine,
    async stop() {
      await engine.stop();
      await workers.shutdown();
    },
    kill: () => workers.kill(),
  };
}

export interface LabAnswer {
  tokenIds: number[];
  /** The sampled token and the likeliest five, of every position. */
  logprobs: number[][];
  cachedTokens: number;
  /** Outputs that said that a sequence of it has ended. */
  numEnds: number;
}

/** Greedy answer to a prompt, to the bit; `onOutput` gets what there is of it, after each output. */
export async function ask(
  { engine }: Pick<LabServer, "engine">,
  promptTokenIds: number[],
  sampling: Partial<SamplingParams> = {},
  changes: Partial<GenerateRequest> = {},
  onOutput: (answer: LabAnswer) => void = () => undefined,
): Promise<LabAnswer> {
  const request: GenerateRequest = {
    requestId: "test",
    promptTokenIds,
    sampling: { ...defaultSamplingParams, temperature: 0, maxTokens: 5, logprobs: 5, ...sampling },
    priority: 0,
    cacheSalt: null,
    detokenize: false,
    ...changes,
  };
  const answer: LabAnswer = { tokenIds: [], logprobs: [], cachedTokens: 0, numEnds: 0 };
  for await (const { delta, numCachedTokens } of engine.generate(request)) {
    answer.tokenIds.push(...delta.tokenIds);
    answer.logprobs.push(...delta.logprobs!.map(({ logprobs }) => logprobs));
    answer.cachedTokens = numCachedTokens;
    if (delta.finishReason !== null) answer.numEnds += 1;
    onOutput(answer);
  }
  return answer;
}

/** What must be the same of a warm and a cold answer. */
export function bitsOf({ tokenIds, logprobs }: LabAnswer) {
  return { tokenIds, logprobs };
}

/** Tokens that look random and are the same in every run. */
export function tokensOf(length: number, salt: number): number[] {
  return Array.from(
    { length },
    (_, i) =>
      (((i + 1) * 7919 + (salt + 3) * 104729 * (i + salt + 7)) >>> 3) % tinyConfig.vocab_size,
  );
}
