import type { EngineConfig } from "../../src/config/engine-config.js";

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
    scheduler: {
      maxNumSeqs: 8,
      maxNumBatchedTokens: 512,
      enableChunkedPrefill: true,
      longPrefillTokenThreshold: 0,
      policy: "fcfs",
      maxNumQueuedRequests: 100,
    },
    parallel: { tensorParallelSize: 1, threads: 2 },
  };
}
