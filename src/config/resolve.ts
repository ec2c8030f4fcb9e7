import { UcmError } from "../errors/index.js";
import { log } from "../log/index.js";
import type { KvDtype, SparseConfig, WeightDtype } from "../messages/index.js";
import { loadModelConfig } from "../model/hf-config.js";
import type { ModelConfig } from "../model/model-config.js";
import { type Shard, shardConfig } from "../model/shard.js";
import { estimateWeightBytes } from "../model/weight-size.js";
import { type BatchLimits, resolveBatchLimits } from "./batch-limits.js";
import { FIT_MEMORY, resolveMaxModelLen } from "./context-length.js";
import type { EngineConfig } from "./engine-config.js";
import type { EngineOptions } from "./engine-options.js";
import { loadGenerationDefaults } from "./generation-config.js";
import {
  besideBytes,
  bytesPerBlock,
  estimateActivationBytes,
  type KvSize,
  sizeKvCache,
  toGib,
} from "./kv-size.js";
import { resolveKvTransfer } from "./kv-transfer.js";
import { inspectMachine, type Machine } from "./machine.js";
import { resolveFolder } from "./model-folder.js";
import { requireRoomForWeights, workerRoom } from "./model-room.js";
import { resolveParallel } from "./parallel.js";
import { resolvePrefixCaching } from "./prefix-caching.js";

/** Surroundings that a test may replace. */
export interface ResolveContext {
  env?: NodeJS.ProcessEnv;
  machine?: Machine;
}

/**
 * Decides everything before the first worker starts: reads the model folder, fills in defaults,
 * sizes the KV cache. Throws UcmError for what cannot work; logs what it decided.
 */
export function resolveEngineConfig(
  options: EngineOptions,
  { env = process.env, machine = inspectMachine() }: ResolveContext = {},
): EngineConfig {
  const path = resolveFolder("model", options.model);
  const model = loadModelConfig(path, options.hfOverrides);
  const parallel = resolveParallel(options, model, machine);
  log.info(`Resolved architecture: ${model.architecture}`);
  const maxModelLen = resolveMaxModelLen(options.maxModelLen, model.maxPositionEmbeddings, env);
  const limits = resolveBatchLimits(options, maxModelLen);
  const prefixCaching = resolvePrefixCaching(options, env);
  const kvDtype = resolveKvDtype(options, model);
  const local = shardConfig(model, shardOf(parallel.tensorParallelSize));
  const { store, sparse } = resolveKvTransfer(options, local, kvDtype, machine);
  const given = { maxModelLen, kvDtype, machine, storeBytes: store?.memoryBytes ?? 0, sparse };
  const size = sizeCache(options, model, parallel.tensorParallelSize, limits, given);
  logSizes(size, limits, options.blockSize);
  return deepFreeze({
    model: { ...describeModel(options, path, model), maxModelLen: size.maxModelLen },
    cache: {
      blockSize: options.blockSize,
      kvDtype,
      numBlocks: size.numBlocks,
      kvBytes: size.kvBytes,
      ...prefixCaching,
    },
    store,
    sparse,
    profilePath: options.profile ?? null,
    scheduler: {
      ...limits,
      longPrefillTokenThreshold: options.longPrefillTokenThreshold,
      policy: options.schedulingPolicy,
      maxNumQueuedRequests: options.maxNumQueuedReqs,
    },
    parallel,
  });
}

function describeModel(options: EngineOptions, path: string, model: ModelConfig) {
  const defaults = loadGenerationDefaults(
    options.generationConfig,
    path,
    options.overrideGenerationConfig,
  );
  if (Object.keys(defaults.sampling).length > 0) {
    log.info(
      `Default sampling parameters have been overridden by the model's generation config: ${JSON.stringify(defaults.sampling)}. If this is not intended, please relaunch with \`--generation-config vllm\`.`,
    );
  }
  const tokenizerPath = options.skipTokenizerInit
    ? null
    : options.tokenizer === null
      ? path
      : resolveFolder("tokenizer", options.tokenizer);
  return {
    path,
    tag: options.modelName ?? options.model,
    servedNames: options.servedModelName ?? [options.modelName ?? options.model],
    tokenizerPath,
    loadFormat: options.loadFormat === "dummy" ? ("dummy" as const) : ("auto" as const),
    dtype: weightDtype(options.dtype),
    quantization: options.quantization,
    hfOverrides: options.hfOverrides,
    vocabSize: model.vocabSize,
    eosTokenIds: [...new Set([...model.eosTokenIds, ...defaults.eosTokenIds])],
    defaultSampling: defaults.sampling,
    maxLogprobs: options.maxLogprobs,
    seed: options.seed,
  };
}

function weightDtype(dtype: EngineOptions["dtype"]): WeightDtype {
  if (dtype === "half") return "float16";
  return dtype === "float" ? "float32" : dtype;
}

/** auto follows --dtype, and that the checkpoint. */
function resolveKvDtype(options: EngineOptions, model: ModelConfig): KvDtype {
  if (options.kvCacheDtype !== "auto") return options.kvCacheDtype;
  const dtype = weightDtype(options.dtype);
  return dtype === "auto" ? model.dtype : dtype;
}

/** The greatest part of a model among so many workers. */
function shardOf(worldSize: number): Shard {
  return { rank: 0, worldSize };
}

/** Of the cache of one worker; they share the memory evenly. */
function sizeCache(
  options: EngineOptions,
  model: ModelConfig,
  worldSize: number,
  limits: BatchLimits,
  given: {
    maxModelLen: number;
    kvDtype: KvDtype;
    machine: Machine;
    storeBytes: number;
    sparse: SparseConfig | null;
  },
): KvSize {
  const { gpuMemoryUtilization: share } = options;
  if (!(share > 0)) {
    throw new UcmError(
      "UCM_ERR_USAGE",
      `argument --gpu-memory-utilization: invalid value: must be above 0 and at most 1, got ${share}`,
    );
  }
  const shard = shardOf(worldSize);
  const local = shardConfig(model, shard);
  const room = workerRoom(given.machine, share, worldSize);
  const isSizeGiven = options.kvCacheMemoryBytes !== null || options.numGpuBlocksOverride !== null;
  if (!isSizeGiven) requireRoomForWeights(model, options.quantization, shard, room);
  const availableBytes =
    room.bytes -
    estimateWeightBytes(model, options.quantization, shard) -
    estimateActivationBytes(local, limits) -
    given.storeBytes;
  log.info(`Available KV cache memory: ${toGib(Math.max(0, availableBytes))} GiB`);
  const size = sizeKvCache({
    blockSize: options.blockSize,
    bytesPerBlock: bytesPerBlock(local, options.blockSize, given.kvDtype, given.sparse),
    beside: besideBytes(local, { ...given, blockSize: options.blockSize }, given.sparse),
    maxModelLen: given.maxModelLen,
    maxNumSeqs: limits.maxNumSeqs,
    shrinkToFit: options.maxModelLen === FIT_MEMORY,
    numBlocks: options.numGpuBlocksOverride,
    kvBytes: options.kvCacheMemoryBytes,
    availableBytes,
  });
  if (size.kvBytes > availableBytes) {
    log.warning(
      `A KV cache of ${toGib(size.kvBytes)} GiB was asked for, but beside weights and activations ${toGib(Math.max(0, availableBytes))} GiB are left (${room.source}): the system may end the workers.`,
    );
  }
  return size;
}

function logSizes(size: KvSize, limits: BatchLimits, blockSize: number): void {
  log.info(`Using max model len ${size.maxModelLen}`);
  if (limits.enableChunkedPrefill) {
    log.info(
      `Chunked prefill is enabled with max_num_batched_tokens=${limits.maxNumBatchedTokens}.`,
    );
  }
  const tokens = size.numBlocks * blockSize;
  const length = size.maxModelLen.toLocaleString("en-US");
  // vLLM's words, which dashboards and scripts look for.
  log.info(`GPU KV cache size: ${tokens.toLocaleString("en-US")} tokens`);
  log.info(
    `Maximum concurrency for ${length} tokens per request: ${(tokens / size.maxModelLen).toFixed(2)}x`,
  );
}

function deepFreeze<T extends object>(value: T): T {
  for (const part of Object.values(value)) {
    if (typeof part === "object" && part !== null && !Object.isFrozen(part)) deepFreeze(part);
  }
  return Object.freeze(value);
}
