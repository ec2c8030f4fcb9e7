import type { EngineConfig } from "../config/engine-config.js";
import { Connector } from "../kvcache/index.js";
import { Scheduler, type SchedulerStore } from "../scheduler/index.js";
import { sparseBudgets } from "./sparse-report.js";

/** A scheduler of the whole KV cache, which no sequence is in yet. */
export function createScheduler(config: EngineConfig): Scheduler {
  const { blockSize, numBlocks } = config.cache;
  return new Scheduler(
    { blockSize, numBlocks, maxModelLen: config.model.maxModelLen, ...config.scheduler },
    schedulerStore(config),
    sparseBudgets(config),
  );
}

/** What the scheduler needs of the store, null without one. */
function schedulerStore({ cache, store }: EngineConfig): SchedulerStore | null {
  if (store === null) return null;
  const { blockSize, kvBytes, numBlocks, enablePrefixCaching } = cache;
  const connector = new Connector(store, { blockSize, bytesPerBlock: kvBytes / numBlocks });
  return { connector, sharesArena: enablePrefixCaching };
}
