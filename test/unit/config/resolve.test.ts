import { symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeEach, describe, expect, it } from "vitest";
import { type EngineOptions, resolveEngineConfig } from "../../../src/config/index.js";
import { UcmError } from "../../../src/errors/index.js";
import { captureLog } from "../../helpers/captured-log.js";
import { tinyConfig } from "../../helpers/checkpoint.js";
import { makeTempFolder } from "../../helpers/temp-folder.js";

let folder = "";
const logged = captureLog();

beforeEach(() => {
  folder = makeTempFolder();
  write("config.json", tinyConfig);
});

function write(name: string, content: unknown): void {
  writeFileSync(join(folder, name), JSON.stringify(content));
}

const defaults: Omit<EngineOptions, "model"> = {
  servedModelName: null,
  tokenizer: null,
  skipTokenizerInit: false,
  hfOverrides: {},
  dtype: "auto",
  quantization: null,
  loadFormat: "auto",
  maxModelLen: null,
  seed: 0,
  generationConfig: "auto",
  overrideGenerationConfig: {},
  maxLogprobs: 20,
  blockSize: 16,
  gpuMemoryUtilization: 0.9,
  kvCacheMemoryBytes: null,
  numGpuBlocksOverride: null,
  kvCacheDtype: "auto",
  maxNumSeqs: null,
  maxNumBatchedTokens: null,
  enableChunkedPrefill: null,
  longPrefillTokenThreshold: 0,
  schedulingPolicy: "fcfs",
  maxNumQueuedReqs: 1024,
  tensorParallelSize: 1,
  cpuCoresPerWorker: null,
  device: "auto",
  workerTimeout: 60,
  kvTransferConfig: null,
  enablePrefixCaching: true,
  prefixCachingHashAlgo: null,
};

const machine = {
  availableBytes: 8 * 2 ** 30,
  isContainer: false,
  processRoom: null,
  cores: 3,
  coreIds: [0, 1, 2],
};

const resolve = (options: Partial<EngineOptions> = {}, env: NodeJS.ProcessEnv = {}) =>
  resolveEngineConfig({ ...defaults, model: folder, ...options }, { env, machine });

function failure(options: Partial<EngineOptions> = {}): UcmError {
  try {
    resolve(options);
  } catch (error) {
    expect(error).toBeInstanceOf(UcmError);
    expect((error as UcmError).exitCode).toBe(2);
    return error as UcmError;
  }
  throw new Error("accepted");
}

describe("resolveEngineConfig", () => {
  it("fills in vLLM's defaults and freezes the result", () => {
    const config = resolve();
    expect(config.scheduler).toMatchObject({
      maxNumSeqs: 256,
      maxNumBatchedTokens: 2048,
      enableChunkedPrefill: true,
      policy: "fcfs",
    });
    expect(config.model).toMatchObject({
      path: folder,
      servedNames: [folder],
      tokenizerPath: folder,
      maxModelLen: 2048,
      vocabSize: 96,
      eosTokenIds: [1],
    });
    expect(config.cache.kvDtype).toBe("float32");
    expect(config.cache.kvBytes).toBe(config.cache.numBlocks * 2 * 2 * 2 * 32 * 16 * 4);
    expect(config.parallel).toEqual({
      tensorParallelSize: 1,
      threads: 3,
      cores: [],
      workerTimeoutMs: 60_000,
    });
    expect(Object.isFrozen(config)).toBe(true);
    expect(Object.isFrozen(config.model.eosTokenIds)).toBe(true);
  });

  it("names the folder that is not there", () => {
    const missing = join(folder, "nope");
    expect(failure({ model: missing })).toMatchObject({ code: "UCM_ERR_MODEL_NOT_FOUND" });
    expect(failure({ model: missing }).message).toContain(missing);
    expect(failure({ model: missing }).message).toContain("or a name on the hub like Org/Name");
    expect(failure({ model: join(folder, "config.json") }).message).toContain("is a file");
    const loop = join(folder, "loop");
    symlinkSync(loop, loop);
    expect(failure({ model: loop })).toMatchObject({
      code: "UCM_ERR_MODEL_NOT_FOUND",
      message: expect.stringContaining(`The model folder ${loop} cannot be read: ELOOP`),
    });
    expect(failure({ tokenizer: missing }).message).toContain("tokenizer folder");
  });

  it("takes sampling defaults and EOS from generation_config.json", () => {
    write("generation_config.json", {
      temperature: 0.6,
      top_k: 20,
      max_new_tokens: 99,
      eos_token_id: [1, 5],
      do_sample: true,
    });
    const { model } = resolve({ overrideGenerationConfig: { temperature: 0.1 } });
    expect(model.defaultSampling).toEqual({ temperature: 0.1, top_k: 20, max_tokens: 99 });
    expect(model.eosTokenIds).toEqual([1, 5]);
    expect(logged()).toContain("--generation-config vllm");
    expect(resolve({ generationConfig: "vllm" }).model).toMatchObject({
      defaultSampling: {},
      eosTokenIds: [1],
    });
    expect(resolve({ generationConfig: folder }).model.defaultSampling.top_k).toBe(20);
    write("generation_config.json", { temperature: "hot" });
    expect(failure().message).toContain("generation_config.json: temperature:");
  });

  it("refuses a context beyond the model's, unless the environment allows it", () => {
    expect(failure({ maxModelLen: 4096 }).message).toMatch(
      /^User-specified max_model_len \(4096\) is greater than the derived max_model_len \(max_position_embeddings=2048 or model_max_length=None in model's config\.json\)\./,
    );
    const env = { VLLM_ALLOW_LONG_MAX_MODEL_LEN: "1" };
    expect(resolve({ maxModelLen: 4096 }, env).model.maxModelLen).toBe(4096);
    expect(failure({ maxModelLen: 0 }).code).toBe("UCM_ERR_USAGE");
  });

  it("fits the context to memory for auto", () => {
    const perBlock = 2 * 2 * 2 * 32 * 16 * 4;
    const config = resolve({ maxModelLen: -1, kvCacheMemoryBytes: 10 * perBlock });
    expect(config.model.maxModelLen).toBe(160);
    expect(failure({ kvCacheMemoryBytes: 10 * perBlock }).message).toContain(
      "the estimated maximum model length is 160",
    );
  });

  it("lets the KV dtype follow --dtype, and that the checkpoint", () => {
    expect(resolve({ dtype: "half" }).cache.kvDtype).toBe("float16");
    expect(resolve({ dtype: "half", kvCacheDtype: "bfloat16" }).cache.kvDtype).toBe("bfloat16");
    expect(resolve({ hfOverrides: { torch_dtype: "bfloat16" } }).cache.kvDtype).toBe("bfloat16");
  });

  it("bends step limits to each other, and refuses what cannot work", () => {
    expect(resolve({ maxNumBatchedTokens: 64 }).scheduler.maxNumSeqs).toBe(64);
    expect(resolve({ maxNumSeqs: 4000 }).scheduler.maxNumBatchedTokens).toBe(4000);
    expect(resolve({ maxNumSeqs: 1, maxModelLen: 100 }).scheduler.maxNumBatchedTokens).toBe(100);
    expect(failure({ maxNumSeqs: 10, maxNumBatchedTokens: 5 }).message).toBe(
      "max_num_batched_tokens (5) must be greater than or equal to max_num_seqs (10).",
    );
    const whole = { enableChunkedPrefill: false, maxNumBatchedTokens: 512 };
    expect(failure(whole).message).toContain("is smaller than max_model_len (2048)");
  });

  it("takes a share of memory above 0 only", () => {
    expect(failure({ gpuMemoryUtilization: 0 }).message).toContain("must be above 0");
    expect(failure({ gpuMemoryUtilization: 1e-9 }).code).toBe("UCM_ERR_MEMORY");
  });

  it("takes a store and sparse attention, and says so", () => {
    const config = resolve({
      kvTransferConfig: {
        kv_connector: "UCMConnector",
        kv_role: "kv_both",
        kv_connector_extra_config: { ucm_connector_name: "UcmDram", ucm_sparse_method: "ESA" },
      },
    });
    expect(config.store).toMatchObject({ kind: "dram", memoryBytes: 5368709120 });
    expect(logged()).toContain("KV cache store UcmDram: 5.00 GiB of memory");
    expect(config.sparse).toMatchObject({ method: "ESA", stride: 5 });
    expect(logged()).toContain(
      "Sparse attention ESA: prompts of 4 blocks or more keep their first 1 and last 2 blocks and 0.3 of the others",
    );
  });

  it("gives sparse attention a memory store of its own, and room in every block", () => {
    const sparse = (extra: Record<string, unknown>, role?: string) =>
      resolve({
        numGpuBlocksOverride: 128,
        kvTransferConfig: {
          ...(role === undefined ? {} : { kv_connector: "UCMConnector", kv_role: role }),
          kv_connector_extra_config: extra,
        },
      });
    const dense = resolve({ numGpuBlocksOverride: 128 });
    for (const role of [undefined, "kv_both"]) {
      const config = sparse({ ucm_sparse_config: { ESA: { score: "minmax" } } }, role);
      expect(config.store).toMatchObject({ kind: "dram", canLoad: true, canDump: true });
      expect(config.store!.memoryBytes).toBeLessThanOrEqual(5368709120);
      // Of 16 tokens, two vectors beside their 16 keys and 16 values.
      expect(config.cache.kvBytes / dense.cache.kvBytes).toBeCloseTo(34 / 32);
    }
    const mean = sparse({ ucm_sparse_config: { ESA: { score: "mean" } } });
    expect(mean.cache.kvBytes / dense.cache.kvBytes).toBeCloseTo(33 / 32);
    expect(() => sparse({ ucm_sparse_method: "ESA" }, "kv_consumer")).toThrow(
      "sparse attention (ESA) needs kv_role 'kv_both', got 'kv_consumer'",
    );
  });

  it("gives workers disjoint cores and even shares of the memory", () => {
    const one = resolve({ gpuMemoryUtilization: 0.01, maxNumSeqs: 256 });
    const two = resolve({ gpuMemoryUtilization: 0.01, maxNumSeqs: 256, tensorParallelSize: 2 });
    expect(two.parallel).toMatchObject({ tensorParallelSize: 2, threads: 1, cores: [[0], [1]] });
    // Of half the KV heads a block takes half the bytes, and what workers need besides is there twice.
    expect(two.cache.kvBytes / two.cache.numBlocks).toBe(
      one.cache.kvBytes / one.cache.numBlocks / 2,
    );
    expect(two.cache.numBlocks).toBeLessThan(one.cache.numBlocks);
    expect(resolve({ tensorParallelSize: 2, cpuCoresPerWorker: 2 }).parallel.cores).toEqual([]);
    expect(logged()).toContain("2 workers of 2 threads share 3 cores: they are not pinned");
  });

  it("names the sizes that a model can be cut into", () => {
    const { code, message } = failure({ tensorParallelSize: 3 });
    expect(code).toBe("UCM_ERR_CONFIG");
    expect(message).toContain("--tensor-parallel-size 3 does not fit the model");
    expect(message).toContain("the 2 KV heads. Legal sizes: 1, 2, 4.");
  });

  it("says what is missing for cuda", () => {
    const { message } = failure({ device: "cuda" });
    expect(message).toContain(
      "cuda is not available: this version has no GPU backend, only one for CPUs (",
    );
  });

  it("checks the KV transfer configuration in vLLM's words", () => {
    expect(failure({ kvTransferConfig: { kv_connector: "X" } }).message).toContain(
      "Please specify kv_role when kv_connector is set, supported roles are ('kv_producer', 'kv_both', 'kv_consumer')",
    );
    expect(failure({ kvTransferConfig: { kv_rol: "kv_both" } }).message).toContain(
      "kv_rol\n  Unexpected keyword argument; did you mean kv_role?",
    );
    expect(failure({ kvTransferConfig: { kv_role: "boss" } }).message).toContain(
      "kv_role\n  Input should be 'kv_producer', 'kv_both' or 'kv_consumer'",
    );
  });
});
