import { hashAlgorithmNames } from "../../config/prefix-caching.js";
import { flagsOf } from "./spec.js";

const cache = flagsOf("CacheConfig");
const scheduler = flagsOf("SchedulerConfig");
const parallel = flagsOf("ParallelConfig");
const kv = flagsOf("VllmConfig");
const observability = flagsOf("ObservabilityConfig");

/** GiB, as VLLM_CPU_KVCACHE_SPACE gives them, in bytes; 0 and nonsense leave the default. */
function gibToBytes(text: string): string | null {
  const gib = Number(text);
  return Number.isFinite(gib) && gib > 0 ? String(Math.floor(gib * 2 ** 30)) : null;
}

/** Cache, scheduler and worker flags that take effect. */
export const engineFlags = {
  "block-size": cache.int(16, "Tokens per KV cache block.", {
    choices: ["8", "16", "32", "64", "128", "256"],
  }),
  "gpu-memory-utilization": cache.float(
    0.9,
    "Share of the machine's free memory that weights, activations and KV cache may take, above 0 and up to 1.",
    { min: 0, max: 1 },
  ),
  "kv-cache-memory-bytes": cache.humanInt(
    null,
    "Size of the KV cache per worker, in place of the share of memory; takes 4G.",
    { min: 1, envTwins: { VLLM_CPU_KVCACHE_SPACE: gibToBytes } },
  ),
  "num-gpu-blocks-override": cache.int(
    null,
    "Number of KV cache blocks, whatever memory there is.",
    { min: 1, max: 2 ** 31 - 1 },
  ),
  "kv-cache-dtype": cache.choice(
    ["auto", "float32", "bfloat16", "float16"],
    "auto",
    "Storage format of keys and values: auto is the checkpoint's.",
  ),
  "enable-prefix-caching": cache.bool(
    true,
    "Keep full blocks after their request and compute no prefix that they hold again.",
  ),
  "prefix-caching-hash-algo": cache.choice(
    hashAlgorithmNames,
    null,
    "Hash that names blocks. Default, and the only one in effect: sha256_cbor.",
  ),
  "max-num-seqs": scheduler.int(null, "Sequences that run at the same time. Default: 256.", {
    min: 1,
  }),
  "max-num-batched-tokens": scheduler.humanInt(
    null,
    "Tokens computed per step at most. Default: 2048.",
    { min: 1 },
  ),
  "enable-chunked-prefill": scheduler.bool(
    null,
    "Compute long prompts in pieces between decode steps. Default: on.",
  ),
  "long-prefill-token-threshold": scheduler.int(
    0,
    "Prompt tokens of one request per step at most; 0 is no limit.",
    { min: 0 },
  ),
  "scheduling-policy": scheduler.choice(
    ["fcfs", "priority"],
    "fcfs",
    "fcfs: by arrival; priority: lower priority value first, then arrival.",
  ),
  "max-num-queued-reqs": scheduler.int(
    1024,
    "Requests that may wait beyond the running ones; further ones get 429.",
    { min: 0 },
  ),
  "tensor-parallel-size": parallel.int(1, "Workers that share each layer.", {
    min: 1,
    short: ["-tp"],
  }),
  "cpu-cores-per-worker": parallel.int(
    null,
    "Compute threads per worker; several workers are pinned to so many cores each. Default: all cores, shared evenly.",
    { min: 1, max: 1024 },
  ),
  device: parallel.choice(
    ["auto", "cpu", "cuda"],
    "auto",
    "Where the model is computed. auto is cpu; there is no GPU backend.",
  ),
  "worker-timeout": parallel.float(
    60,
    "Seconds without a sign of life, loading, computing or idle, after which a worker counts as hung and is replaced.",
    { min: 0.1, max: 86_400, envTwins: { VLLM_EXECUTE_MODEL_TIMEOUT_SECONDS: (text) => text } },
  ),
  "kv-transfer-config": kv.json(
    null,
    "JSON of the KV connector: external KV cache store and sparse attention.",
  ),
  profile: observability.string(
    null,
    "Write what each step of engine and workers spends its time on to this file (ucm-profile.json without a name), for ui.perfetto.dev or chrome://tracing, and a summary at the end.",
    { bare: "ucm-profile.json" },
  ),
} as const;
