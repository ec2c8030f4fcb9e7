import type { Quantization } from "../messages/index.js";
import type { HashAlgorithmName } from "./prefix-caching.js";

/** Flags that decide the engine's configuration, parsed; null is "not given". */
export interface EngineOptions {
  /** Folder of the checkpoint as the user typed it. */
  model: string;
  /** What it is called where that is not its folder. */
  modelName?: string;
  servedModelName: readonly string[] | null;
  tokenizer: string | null;
  skipTokenizerInit: boolean;
  hfOverrides: Record<string, unknown>;
  dtype: "auto" | "half" | "float16" | "bfloat16" | "float" | "float32";
  quantization: Quantization;
  loadFormat: "auto" | "hf" | "safetensors" | "dummy";
  /** -1 is the largest that fits memory. */
  maxModelLen: number | null;
  seed: number;
  /** auto, vllm, or a folder. */
  generationConfig: string;
  overrideGenerationConfig: Record<string, unknown>;
  maxLogprobs: number;
  blockSize: number;
  gpuMemoryUtilization: number;
  kvCacheMemoryBytes: number | null;
  numGpuBlocksOverride: number | null;
  enablePrefixCaching: boolean;
  prefixCachingHashAlgo: HashAlgorithmName | null;
  kvCacheDtype: "auto" | "float32" | "bfloat16" | "float16";
  maxNumSeqs: number | null;
  maxNumBatchedTokens: number | null;
  enableChunkedPrefill: boolean | null;
  longPrefillTokenThreshold: number;
  schedulingPolicy: "fcfs" | "priority";
  maxNumQueuedReqs: number;
  tensorParallelSize: number;
  cpuCoresPerWorker: number | null;
  device: "auto" | "cpu" | "cuda";
  /** Seconds. */
  workerTimeout: number;
  kvTransferConfig: Record<string, unknown> | null;
  /** File for a profile. */
  profile?: string | null;
}
