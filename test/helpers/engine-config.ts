import type { EngineConfig } from "../../src/config/engine-config.js";
import type { SparseConfig, StoreConfig } from "../../src/messages/index.js";

/** A store in memory that loads whatever it finds; tests change what they are about. */
export const testStoreConfig: StoreConfig = {
  kind: "dram",
  name: "UcmDram",
  canLoad: true,
  canDump: true,
  loadFailurePolicy: "recompute",
  loadDecision: "always",
  memoryBytes: 64 * 2 ** 20,
  backends: [],
  threads: 0,
  ioBytes: 262_144,
  directIo: false,
  capacityBytes: 0,
  recycle: true,
  recycleRatio: 0.7,
  timeoutMs: 30_000,
};

/** A small configuration of an engine around the given model fields. */
export function testEngineConfig(model: Partial<EngineConfig["model"]>): EngineConfig {
  return {
    model: {
      path: "",
      tag: "test",
      servedNames: ["test"],
      tokenizerPath: null,
      loadFormat: "auto",
      dtype: "auto",
      quantization: null,
      hfOverrides: {},
      vocabSize: 96,
      maxModelLen: 512,
      eosTokenIds: [],
      defaultSampling: {},
      maxLogprobs: 20,
      seed: 0,
      ...model,
    },
    cache: {
      blockSize: 16,
      kvDtype: "float32",
      numBlocks: 64,
      kvBytes: 0,
      enablePrefixCaching: true,
      blockHashSeed: null,
    },
    store: null,
    sparse: null,
    profilePath: null,
    scheduler: {
      maxNumSeqs: 8,
      maxNumBatchedTokens: 512,
      enableChunkedPrefill: true,
      longPrefillTokenThreshold: 0,
      policy: "fcfs",
      maxNumQueuedRequests: 100,
    },
    parallel: { tensorParallelSize: 1, threads: 2, cores: [], workerTimeoutMs: 60_000 },
  };
}

/** ESA in every prompt of four blocks or more. */
export const testSparseConfig: SparseConfig = {
  method: "ESA",
  window: { init: 1, local: 2, minBlocks: 4, ratio: 0.3 },
  score: "minmax",
  representationTokens: 16,
  groupReduce: "max",
  denseLayers: 0,
  stride: 5,
  nextShare: 0.7,
  driftCosine: 0,
  recallEvery: 8,
  waitMs: 1000,
};
