import { type EngineConfig, toGib } from "../config/index.js";
import { Engine, StoreReports } from "../engine/index.js";
import { Supervisor } from "../launcher/index.js";
import { log } from "../log/index.js";
import type { EngineObserver } from "../metrics/index.js";
import { Profile } from "../profile/index.js";
import { loadTokenizer, type Tokenizer } from "../tokenizer/index.js";
import { showLoadProgress } from "./load-progress.js";

/** A loaded model, ready for requests. */
export interface EngineRuntime {
  engine: Engine;
  workers: Supervisor;
  /** Stops the workers; a profile is complete then, and its summary goes to standard error. */
  stop(): Promise<void>;
}

/** The tokenizer of the configuration, null under --skip-tokenizer-init. */
export async function openTokenizer(config: EngineConfig): Promise<Tokenizer | null> {
  const path = config.model.tokenizerPath;
  return path === null ? null : loadTokenizer(path);
}

/** Starts the workers and the engine over them; the workers end with this process at the latest. */
export async function startEngine(
  config: EngineConfig,
  tokenizer: Tokenizer | null,
  options: { signal: AbortSignal; showProgress: boolean; observer?: EngineObserver | null },
): Promise<EngineRuntime> {
  const startedMs = performance.now();
  const { tensorParallelSize: size, threads } = config.parallel;
  // Before the model is loaded, so that a file that cannot be written is known at once.
  const profile = config.profilePath === null ? null : new Profile(config.profilePath, size);
  log.info(`Starting to load model ${config.model.tag}...`);
  const { observer = null } = options;
  const storeReports = new StoreReports(observer);
  const progress = showLoadProgress(options.showProgress);
  let workers: Supervisor;
  try {
    workers = await Supervisor.start(config, {
      signal: options.signal,
      onProgress: progress.onProgress,
      onStoreReport: (rank, report) => storeReports.receive(rank, report),
    });
  } finally {
    progress.stop();
  }
  const { weightBytes, loadMs, isa } = workers.ready;
  const each = size === 1 ? "" : `each of ${size} workers, the slowest; `;
  log.info(
    `Model loading took ${toGib(weightBytes)} GiB memory and ${(loadMs / 1000).toFixed(6)} seconds (${each}kernels: ${isa}, threads: ${threads})`,
  );
  const initMs = performance.now() - startedMs;
  log.info(
    `init engine (profile, create kv cache, warmup model) took ${(initMs / 1000).toFixed(2)} seconds`,
  );
  const engine = new Engine({
    ...{ config, tokenizer, observer, storeReports, profile },
    executor: workers,
  });
  return {
    engine,
    workers,
    async stop() {
      await workers.shutdown();
      if (profile === null) return;
      profile.close();
      process.stderr.write(`\n${profile.summary.render()}\n`);
      process.stderr.write(`Profile: ${config.profilePath} (open it in ui.perfetto.dev)\n`);
    },
  };
}
