import type { EngineConfig } from "../config/engine-config.js";
import type { WorkerConfig } from "../messages/index.js";

/** Everything needed to start one worker process. */
export interface WorkerSpec {
  /** As its log lines are prefixed. */
  label: string;
  config: WorkerConfig;
  /** The whole environment of the process. */
  env: Record<string, string>;
}

/** Variables that a worker gets: those that decide how Node and native code run, and our own. */
const passedVariables =
  /^(PATH|HOME|TMPDIR|LANG|LC_.*|TZ|LD_LIBRARY_PATH|MALLOC_.*|GLIBC_TUNABLES|UCM_.*|VLLM_.*|PYTHONHASHSEED)$/;

/** Secrets among them: a worker has no use for these. */
const secretVariables = /_API_KEY$/;

/**
 * Weights are streamed in every step, and with huge pages without a miss of the translation buffer
 * per page: 6 to 15 % less time per decode step at 0.5B int8. A value from outside wins.
 */
const HUGE_PAGES = "glibc.malloc.hugetlb=1";

/** Time that a rank with cores of its own spins for the others: longer than a layer's imbalance. */
const RANK_SPIN_MICROS = 100;

/** So many times the patience with a worker: of a rank that hangs the watchdog tells, and knows why. */
const RANK_PATIENCE = 2;

/** One worker per tensor-parallel rank. Pure. */
export function planWorkers(config: EngineConfig, env: NodeJS.ProcessEnv): WorkerSpec[] {
  const worldSize = config.parallel.tensorParallelSize;
  return Array.from({ length: worldSize }, (_, rank) => ({
    label: `Worker_TP${rank}`,
    config: workerConfig(config, rank, worldSize),
    env: passedEnvironment(env),
  }));
}

function workerConfig(config: EngineConfig, rank: number, worldSize: number): WorkerConfig {
  const { model, cache, scheduler, parallel } = config;
  return {
    modelPath: model.path,
    loadFormat: model.loadFormat,
    hfOverrides: model.hfOverrides,
    dtype: model.dtype,
    quantization: model.quantization,
    kvDtype: cache.kvDtype,
    blockSize: cache.blockSize,
    numBlocks: cache.numBlocks,
    maxModelLen: model.maxModelLen,
    maxNumBatchedTokens: scheduler.maxNumBatchedTokens,
    maxNumSeqs: scheduler.maxNumSeqs,
    threads: parallel.threads,
    rank,
    worldSize,
    cores: parallel.cores[rank] ?? [],
    rankTimeoutMs: RANK_PATIENCE * parallel.workerTimeoutMs,
    rankSpinMicros: parallel.cores.length > 0 ? RANK_SPIN_MICROS : 0,
    seed: model.seed,
    store: config.store,
    sparse: config.sparse,
    profile: config.profilePath !== null,
  };
}

function passedEnvironment(env: NodeJS.ProcessEnv): Record<string, string> {
  const passed: Record<string, string> = { GLIBC_TUNABLES: HUGE_PAGES };
  for (const [name, value] of Object.entries(env)) {
    const isPassed = passedVariables.test(name) && !secretVariables.test(name);
    if (value !== undefined && isPassed) passed[name] = value;
  }
  return passed;
}
