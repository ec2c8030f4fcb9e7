import { afterEach, describe, expect, it } from "vitest";
import type { UcmError } from "../../../src/errors/index.js";
import { watchWorkers } from "../../../src/launcher/watchdog.js";

const TIMEOUT_MS = 200;
const pause = (ms: number) => new Promise((done) => setTimeout(done, ms));

let stop = () => {};
afterEach(() => stop());

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
  it("tells of the worker that stands still, not of one that goes on", async () => {
    let count = 0;
    const hung = watch((rank) => (rank === 0 ? `step ${count++}` : "step 7 1"));
    await pause(3 * TIMEOUT_MS);
    expect(hung).toHaveLength(1);
    expect(hung[0]).toBe(
      "Worker_TP1 made no progress with a step for 0.2 s and was killed: its process is suspended (SIGSTOP). If steps of this model take longer, raise --worker-timeout.",
    );
  });

  it("waits with a worker that waits for this process", async () => {
    const hung = watch(() => null);
    await pause(3 * TIMEOUT_MS);
    expect(hung).toEqual([]);
  });

  it("does not take a stop of this process for one of a worker", async () => {
    const hung = watch(() => "step 1 1");
    await pause(TIMEOUT_MS / 4);
    const end = performance.now() + 3 * TIMEOUT_MS;
    while (performance.now() < end);
    await pause(TIMEOUT_MS / 10);
    expect(hung).toEqual([]);
    await pause(2 * TIMEOUT_MS);
    expect(hung).toHaveLength(1);
  });
});
