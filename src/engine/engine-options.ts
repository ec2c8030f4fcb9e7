import type { EngineConfig } from "../config/engine-config.js";
import type { EngineObserver, PromptTokensBySource, StoreSnapshot } from "../metrics/index.js";
import type { Profile } from "../profile/index.js";
import type { SchedulerStats } from "../scheduler/index.js";
import type { Tokenizer } from "../tokenizer/types.js";
import type { SparseReport } from "./sparse-report.js";
import type { StoreReports } from "./store-reports.js";
import type { Executor } from "./types.js";

export interface EngineOptions {
  config: EngineConfig;
  executor: Executor;
  /** Null under --skip-tokenizer-init: token ids only. */
  tokenizer: Tokenizer | null;
  /** Milliseconds, monotonic. */
  clock?: () => number;
  /** The grammar threads' program; tests give that of the build. */
  grammarEntry?: URL;
  /** Told of single events, for metrics. */
  observer?: EngineObserver | null;
  /** Told what steps spend their time on. */
  profile?: Profile | null;
  /** What the workers tell of their stores. */
  storeReports?: StoreReports;
}

export interface EngineStats extends Omit<SchedulerStats, "sparse"> {
  /** Since the start, as are the next ones: prompt tokens of the requests that were scheduled. */
  promptTokens: number;
  promptTokensBySource: PromptTokensBySource;
  generatedTokens: number;
  /** What the workers' stores last told; none without a store. */
  stores: readonly StoreSnapshot[];
  /** Null when attention is dense. */
  sparse: SparseReport | null;
  /** Since sleep() and until wakeUp(): there are no workers. */
  isAsleep: boolean;
}
