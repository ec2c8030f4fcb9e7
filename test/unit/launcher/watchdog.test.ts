import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import type { UcmError } from "../../../src/errors/index.js";
import { watchWorkers } from "../../../src/launcher/watchdog.js";

const TIMEOUT_MS = 200;

let stop = () => {};
beforeEach(() => void vi.useFakeTimers());
afterEach(() => {
  stop();
  vi.useRealTimers();
});

/** Watches two workers that do what `activityOf` says; the names of those that hung. */
function watch(activityOf: (rank: number) => string | null): string[] {
  const hung: string[] = [];
  stop = watchWorkers(
    [0, 1].map((rank) => ({
      name: `Worker_TP${rank}`,
      activity: () => activityOf(rank),
      standstill: rank === 1 ? "its process is suspended (SIGSTOP)" : null,
    })),
    { heartbeat: () => ({ progress: 0n, idle: 0n }) },
    TIMEOUT_MS,
    ({ message }: UcmError) => {
      hung.push(message);
      stop();
    },
  );
  return hung;
}

describe("the watchdog", () => {
  it("tells of the worker that stands still, not of one that goes on", () => {
    let count = 0;
    const hung = watch((rank) => (rank === 0 ? `step ${count++}` : "step 7 1"));
    vi.advanceTimersByTime(3 * TIMEOUT_MS);
    expect(hung).toHaveLength(1);
    expect(hung[0]).toBe(
      "Worker_TP1 made no progress with a step for 0.2 s and was killed: its process is suspended (SIGSTOP). If steps of this model take longer, raise --worker-timeout.",
    );
  });

  it("blames, of those that wait for each other, the one that cannot go on", () => {
    const hung = watch(() => "step 7 1");
    vi.advanceTimersByTime(3 * TIMEOUT_MS);
    expect(hung[0]).toMatch(/^Worker_TP1 .*: its process is suspended/);
  });

  it("waits with a worker that waits for this process", () => {
    const hung = watch(() => null);
    vi.advanceTimersByTime(3 * TIMEOUT_MS);
    expect(hung).toEqual([]);
  });

  it("does not take a stop of this process for one of a worker", () => {
    const hung = watch(() => "step 1 1");
    vi.advanceTimersByTime(TIMEOUT_MS / 4);
    // The clock goes on, and no timer runs.
    vi.setSystemTime(Date.now() + 3 * TIMEOUT_MS);
    vi.advanceTimersByTime(TIMEOUT_MS / 10);
    expect(hung).toEqual([]);
    vi.advanceTimersByTime(2 * TIMEOUT_MS);
    expect(hung).toHaveLength(1);
  });
});
