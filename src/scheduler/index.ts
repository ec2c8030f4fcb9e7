export type { FilledBlocks, KvConnector, LoadFailure, SchedulerStore } from "./kv-connector.js";
export type { SchedulingPolicy } from "./policy.js";
export { Scheduler } from "./scheduler.js";
export type { BlockHashes, SequenceInput } from "./sequence.js";
export type { SparseBudgets, SparseStats } from "./sparse-sequences.js";
export type { SequenceFinish } from "./stop-check.js";
export type {
  SchedulerConfig,
  SchedulerPlan,
  SchedulerStats,
  SequenceEvent,
  StartedSequence,
} from "./types.js";
