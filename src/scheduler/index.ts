export type { SchedulingPolicy } from "./policy.js";
export {
  Scheduler,
  type SchedulerConfig,
  type SchedulerPlan,
  type SchedulerStats,
  type SequenceEvent,
} from "./scheduler.js";
export type { SequenceInput } from "./sequence.js";
export type { SequenceFinish } from "./stop-check.js";
