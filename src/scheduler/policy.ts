import type { Sequence } from "./sequence.js";

export type SchedulingPolicy = "fcfs" | "priority";

/** Negative when `a` goes before `b`; a total order, so never 0 for two sequences. */
export type SequenceOrder = (a: Sequence, b: Sequence) => number;

/**
 * Who is admitted first and, read backwards, who is preempted first. Under fcfs the running
 * sequences are always in this order, so the last to arrive is the last of them, and a preempted one
 * goes back to the front of the queue: all that still wait arrived after it.
 */
export const sequenceOrders: Readonly<Record<SchedulingPolicy, SequenceOrder>> = {
  fcfs: (a, b) => a.arrival - b.arrival,
  priority: (a, b) => a.priority - b.priority || a.arrival - b.arrival,
};
