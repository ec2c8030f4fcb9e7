import { readdirSync, readlinkSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { afterEach, describe, expect, it } from "vitest";
import type { UcmError } from "../../../src/errors/index.js";
import {
  Lifecycle,
  type LifecycleState,
  type RestartPolicy,
  Supervisor,
} from "../../../src/launcher/index.js";
import type { StepMessage } from "../../../src/messages/index.js";
import { captureLog } from "../../helpers/captured-log.js";
import { testEngineConfig } from "../../helpers/engine-config.js";

const workerEntry = fileURLToPath(new URL("../../helpers/scripted-worker.mjs", import.meta.url));
const output = captureLog();
const supervisors: Supervisor[] = [];

afterEach(async () => {
  await Promise.all(supervisors.splice(0).map((supervisor) => supervisor.shutdown()));
});

async function start(behaviour: string, restart: Partial<RestartPolicy> = {}) {
  const supervisor = await Supervisor.start(testEngineConfig({ path: `/models/${behaviour}` }), {
    workerEntry,
    restart: { firstPauseMs: 20, longestPauseMs: 40, ...restart },
  });
  supervisors.push(supervisor);
  return supervisor;
}

const stepOf = (stepId: number): StepMessage => ({
  type: "step",
  stepId,
  newSequences: [],
  scheduled: [],
  finished: new Int32Array(),
});

/** Pids of the workers so far, in the order in which they began. */
const pids = () => [...output().matchAll(/pid=(\d+)\) loading/g)].map(([, pid]) => Number(pid));

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

/** Files without a name that this process has open. */
function namelessFiles(): number {
  return readdirSync("/proc/self/fd").filter((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`).startsWith("/dev/shm/");
    } catch {
      return false;
    }
  }).length;
}

describe("the lifecycle", () => {
  const paths: [LifecycleState[], boolean][] = [
    [["ready", "serving", "failed", "spawn", "ready"], true],
    [["failed", "stopped"], true],
    [["ready", "draining", "stopped"], true],
    [["ready", "asleep", "spawn", "asleep", "spawn", "ready"], true],
    [["ready", "serving", "asleep", "draining", "stopped"], true],
    [["ready", "asleep", "serving"], false],
    [["serving"], false],
    [["ready", "draining", "spawn"], false],
    [["ready", "draining", "stopped", "spawn"], false],
  ];
  it.each(paths)("%j is legal: %s", (states, isLegal) => {
    const lifecycle = new Lifecycle();
    const walk = () => {
      for (const state of states) lifecycle.to(state);
    };
    if (isLegal) walk();
    else expect(walk).toThrow(/cannot go from/);
  });
});

describe("the supervisor", () => {
  it("ends its workers to sleep, nobody misses them, and starts others", async () => {
    const supervisor = await start("good");
    supervisor.onLost((error) => expect.fail(error.message));
    for (let round = 0; round < 2; round++) {
      expect(await supervisor.execute(stepOf(round))).toMatchObject({ stepId: round });
      const pid = pids().at(-1)!;
      await supervisor.sleep();
      expect(isAlive(pid)).toBe(false);
      await supervisor.wakeUp();
      expect(pids().at(-1)).not.toBe(pid);
    }
    await supervisor.sleep();
    await supervisor.shutdown();
    expect(output()).not.toContain("ERROR");
  });

  it("puts other workers in the place of lost ones, each time", async () => {
    const supervisor = await start("good");
    const lost: UcmError[] = [];
    supervisor.onLost((error) => lost.push(error));
    for (let round = 0; round < 3; round++) {
      expect(await supervisor.execute(stepOf(round))).toMatchObject({ stepId: round });
      process.kill(pids().at(-1)!, "SIGKILL");
      while (lost.length <= round) await new Promise((done) => setTimeout(done, 5));
      await supervisor.recover(lost[round]!);
    }
    expect(await supervisor.execute(stepOf(9))).toMatchObject({ stepId: 9 });
    expect(lost.map(({ message }) => message)).toEqual(
      lost.map(() => expect.stringContaining("was killed by SIGKILL")),
    );
    expect(pids().map(isAlive)).toEqual([false, false, false, true]);
    expect(output()).toContain("Starting the workers again in 0.02 s");
    expect(output()).toContain("Workers are back after");
  });

  it("gives up on a crash loop, with the last words of the worker", async () => {
    const supervisor = await start("good-crashing", { maxFailures: 3 });
    const gaveUp = new Promise<UcmError>((resolve) => supervisor.onGiveUp(resolve));
    const failures: string[] = [];
    for (let round = 0; round < 3; round++) {
      const error = await supervisor.execute(stepOf(round)).catch((e: UcmError) => e);
      failures.push(
        await supervisor.recover(error as UcmError).then(
          () => "back",
          (e: UcmError) => e.message,
        ),
      );
    }
    expect(failures.slice(0, 2)).toEqual(["back", "back"]);
    expect(failures[2]).toMatch(/^The workers failed 3 times in a row .* exited with code 9\./);
    expect((await gaveUp).message).toContain("last words");
    expect(pids().map(isAlive)).toEqual([false, false, false]);
  });

  it("replaces workers that the engine cannot trust", async () => {
    const supervisor = await start("good");
    await supervisor.recover({ message: "it broke the step protocol" } as UcmError);
    expect(pids().map(isAlive)).toEqual([false, true]);
  });

  it("does not start anew while draining, nor when told to stop in the pause before", async () => {
    const draining = await start("good");
    draining.drain();
    const lost = new Promise<UcmError>((resolve) => draining.onLost(resolve));
    process.kill(pids()[0]!, "SIGKILL");
    await expect(draining.recover(await lost)).rejects.toThrow("was killed by SIGKILL");

    const pausing = await start("good", { firstPauseMs: 60_000, longestPauseMs: 60_000 });
    const recovery = pausing.recover({ message: "lost" } as UcmError);
    await pausing.shutdown();
    await expect(recovery).rejects.toThrow();
    expect(pids().map(isAlive)).toEqual([false, false]);
  });

  it("leaves neither process nor shared memory", async () => {
    const before = namelessFiles();
    const supervisor = await start("good");
    expect(namelessFiles()).toBe(before + 1);
    await supervisor.recover({ message: "lost" } as UcmError);
    expect(namelessFiles()).toBe(before + 1);
    await supervisor.shutdown();
    expect(namelessFiles()).toBe(before);
  });
});
