import type { Engine, EngineStats, SparseReport } from "../engine/index.js";
import { log } from "../log/index.js";

const DEFAULT_INTERVAL_S = 10;

/**
 * Logs throughput and load in vLLM's line every VLLM_LOG_STATS_INTERVAL seconds; at DEBUG while
 * nothing happens in two intervals on end. Returns the function that stops it.
 */
export function startStatsLog(engine: Pick<Engine, "stats">, env: NodeJS.ProcessEnv): () => void {
  const given = Number(env.VLLM_LOG_STATS_INTERVAL ?? "");
  const intervalS = given > 0 ? given : DEFAULT_INTERVAL_S;
  let last = engine.stats();
  let wasIdle = true;
  const timer = setInterval(() => {
    const now = engine.stats();
    const line = statsLine(last, now, intervalS);
    const isIdle = now.generatedTokens === last.generatedTokens && now.running === 0;
    if (isIdle && wasIdle) log.debug(line);
    else log.info(line);
    wasIdle = isIdle;
    last = now;
  }, intervalS * 1000);
  timer.unref();
  return () => clearInterval(timer);
}

/** vLLM's line: rates since `last`, load of `now`. Prompt tokens that were found do not count. */
export function statsLine(last: EngineStats, now: EngineStats, seconds: number): string {
  const computed = now.promptTokensBySource.computed - last.promptTokensBySource.computed;
  const generated = (now.generatedTokens - last.generatedTokens) / seconds;
  const usage = (100 * now.usedBlocks) / now.numBlocks;
  const external = now.externalPrefixCache;
  const preemptions = now.numPreemptions - last.numPreemptions;
  return [
    `Engine 000: Avg prompt throughput: ${(computed / seconds).toFixed(1)} tokens/s`,
    `Avg generation throughput: ${generated.toFixed(1)} tokens/s`,
    `Running: ${now.running} reqs`,
    `Waiting: ${now.waiting} reqs`,
    ...(preemptions > 0 ? [`Preemptions: ${preemptions}`] : []),
    `GPU KV cache usage: ${usage.toFixed(1)}%`,
    `Prefix cache hit rate: ${(100 * now.prefixCacheHitRate).toFixed(1)}%`,
    ...(external === null
      ? []
      : [`External prefix cache hit rate: ${(100 * external.hitRate).toFixed(1)}%`]),
    ...sparseParts(last.sparse, now.sparse),
  ].join(", ");
}

/** How many sequences are sparse now, and the recall measured since `last`. */
function sparseParts(last: EngineStats["sparse"], now: EngineStats["sparse"]): string[] {
  if (last === null || now === null || now.entered === 0) return [];
  const sum = ({ recall }: SparseReport) => recall.samples * (recall.mean ?? 0);
  const samples = now.recall.samples - last.recall.samples;
  return [
    `${now.method}: ${now.running} reqs`,
    ...(samples === 0
      ? []
      : [`${now.method} recall: ${((100 * (sum(now) - sum(last))) / samples).toFixed(1)}%`]),
  ];
}
