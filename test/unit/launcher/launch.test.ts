import { fileURLToPath } from "node:url";
import { afterEach, describe, expect, it, vi } from "vitest";
import type { UcmError } from "../../../src/errors/index.js";
import {
  type LaunchOptions,
  launchWorkers,
  planWorkers,
  type WorkerGroup,
} from "../../../src/launcher/index.js";
import type { StepMessage } from "../../../src/messages/index.js";
import { captureLog } from "../../helpers/captured-log.js";
import { testEngineConfig } from "../../helpers/engine-config.js";
import { until } from "../../helpers/ucm-command.js";

const workerEntry = fileURLToPath(new URL("../../helpers/scripted-worker.mjs", import.meta.url));

/** The scripted worker does what the model path's last part says. */
const configFor = (behaviour: string) => testEngineConfig({ path: `/models/${behaviour}` });

const stepOf = (stepId: number): StepMessage => ({
  type: "step",
  stepId,
  newSequences: [{ seqId: 5, promptTokenIds: Int32Array.of(42), sampling: {} as never }],
  scheduled: [],
  finished: new Int32Array(),
});

const groups: WorkerGroup[] = [];
const output = captureLog();

afterEach(async () => {
  await Promise.all(groups.splice(0).map((group) => group.shutdown()));
});

async function launch(behaviour: string, options: LaunchOptions = {}): Promise<WorkerGroup> {
  const group = await launchWorkers(configFor(behaviour), { workerEntry, ...options });
  groups.push(group);
  return group;
}

const failure = (behaviour: string, options: LaunchOptions = {}) =>
  launch(behaviour, options).then(
    () => {
      throw new Error(`${behaviour} started`);
    },
    (error: UcmError) => error,
  );

/** The pid that a log line's prefix, or a message, tells. */
function pidIn(text: string): number {
  const pid = Number(/pid[= ](\d+)/.exec(text)?.[1]);
  expect(pid).toBeGreaterThan(0);
  return pid;
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

describe("planWorkers", () => {
  it("makes one spec per rank, with the decisions of the configuration", () => {
    const config = configFor("good");
    const parallel = {
      tensorParallelSize: 2,
      threads: 1,
      cores: [[0], [3]],
      workerTimeoutMs: 60_000,
    };
    const specs = planWorkers({ ...config, parallel }, {});
    expect(
      specs.map(({ label, config: { rank, worldSize, cores } }) => [label, rank, worldSize, cores]),
    ).toEqual([
      ["Worker_TP0", 0, 2, [0]],
      ["Worker_TP1", 1, 2, [3]],
    ]);
    expect(specs[0]?.config).toMatchObject({ numBlocks: 64, blockSize: 16, threads: 1 });
  });

  it("passes on what workers need of the environment and nothing else", () => {
    const env = { PATH: "/bin", UCM_CPU_ISA: "avx2", VLLM_API_KEY: "secret", SECRET: "no" };
    const [spec] = planWorkers(configFor("good"), env);
    expect(spec?.env).toEqual({
      GLIBC_TUNABLES: "glibc.malloc.hugetlb=1",
      PATH: "/bin",
      UCM_CPU_ISA: "avx2",
    });
  });
});

describe("launchWorkers", () => {
  it("loads, steps with typed arrays, passes output on under a label, and shuts down", async () => {
    const group = await launch("good", { env: { PATH: process.env.PATH, SECRET: "x" } });
    expect(group.ready.weightBytes).toBe(1);
    expect(group.ready.isa.split(",")).toContain("PATH");
    expect(group.ready.isa).not.toContain("SECRET");
    const result = await group.executor.execute(stepOf(3));
    expect(result).toMatchObject({ stepId: 3, sampled: [{ seqId: 5, tokenId: 42 }] });
    await group.shutdown();
    expect(output()).toMatch(/^\(Worker_TP0 pid=\d+\) loading\n/);
    expect(isAlive(pidIn(output()))).toBe(false);
    await expect(group.executor.execute(stepOf(4))).rejects.toThrow("has been stopped");
  });

  it("rejects with the worker's own error", async () => {
    const error = await failure("failing");
    expect(error).toMatchObject({ code: "UCM_ERR_WEIGHTS", message: "a tensor is missing" });
    expect(isAlive(pidIn(output()))).toBe(false);
  });

  it("tells how a worker died, with the end of its standard error", async () => {
    const error = await failure("crashing");
    expect(error.code).toBe("UCM_ERR_WORKER");
    expect(error.message).toMatch(
      /^Worker_TP0 \(pid \d+\) exited with code 7\.\nabout to fall over$/,
    );
    expect((await failure("killed")).message).toContain("was killed by SIGKILL");
  });

  it("refuses a worker of another protocol version", async () => {
    expect((await failure("oldVersion")).message).toContain("protocol version 0");
  });

  it("gives up on a silent load, and leaves no process", async () => {
    const error = await failure("silent", { loadTimeoutMs: 300 });
    expect(error.code).toBe("UCM_ERR_TIMEOUT");
    expect(isAlive(pidIn(error.message))).toBe(false);
  });

  it("gives up on a load that stands still, and says which and why", async () => {
    const config = configFor("busy");
    const parallel = { ...config.parallel, tensorParallelSize: 2, workerTimeoutMs: 3_000 };
    const failed = launchWorkers({ ...config, parallel }, { workerEntry }).catch((e) => e);
    const pidOfRank1 = () => Number(/Worker_TP1 pid=(\d+)\) loading/.exec(output())?.[1]);
    await until("a worker that loads", () => pidOfRank1() > 0);
    const victim = pidOfRank1();
    process.kill(victim, "SIGSTOP");
    expect(await failed).toMatchObject({
      code: "UCM_ERR_TIMEOUT",
      message: `Worker_TP1 (pid ${victim}) made no progress with loading the model for 3 s and was killed: its process is suspended (SIGSTOP). If the model's disk needs longer, raise --worker-timeout.`,
    });
    await until("the end of all", () => !isAlive(victim));
  });

  it("counts progress as a sign of life, and reports it", async () => {
    vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
    const seen: number[] = [];
    await launch("slow", {
      loadTimeoutMs: 1_000,
      onProgress({ done }) {
        seen.push(done);
        vi.advanceTimersByTime(900);
      },
    }).finally(() => vi.useRealTimers());
    expect(seen).toEqual([1, 2, 3, 4]);
  });

  it("reports the progress of the slowest worker", async () => {
    const config = configFor("uneven");
    const parallel = { ...config.parallel, tensorParallelSize: 2 };
    const seen: number[] = [];
    const onProgress = ({ done, total }: { done: number; total: number }) => {
      expect(total).toBe(4);
      seen.push(done);
    };
    const group = await launchWorkers({ ...config, parallel }, { workerEntry, onProgress });
    groups.push(group);
    // Rank 1 tells of one part of four, rank 0 of three, in whatever order.
    expect(seen).toHaveLength(4);
    expect(seen.at(-1)).toBe(1);
    expect(seen.toSorted()).toEqual(seen);
    expect(group.ready.loadMs).toBe(8);
  });

  it("stops loading when told to", async () => {
    const controller = new AbortController();
    const reason = new Error("stopped");
    const abortOnceLoading = setInterval(() => {
      if (output().includes("loading")) controller.abort(reason);
    }, 20);
    expect(await failure("silent", { signal: controller.signal })).toBe(reason);
    clearInterval(abortOnceLoading);
    expect(isAlive(pidIn(output()))).toBe(false);
  });

  it("rejects the step under which a worker dies, and tells who listens, late ones too", async () => {
    const group = await launch("good-crashing");
    const exits: string[] = [];
    group.onExit((error) => exits.push(error.message));
    await expect(group.executor.execute(stepOf(1))).rejects.toThrow("exited with code 9");
    expect(exits).toHaveLength(1);
    const late = await new Promise<UcmError>((resolve) => group.onExit(resolve));
    expect(late.code).toBe("UCM_ERR_WORKER");
  });

  it("gives up on a worker without a sign of life, in a step and between steps", async () => {
    const parallel = { ...configFor("").parallel, workerTimeoutMs: 200 };
    const hung = { ...configFor("good-silent"), parallel };
    const group = await launchWorkers(hung, { workerEntry });
    groups.push(group);
    await expect(group.executor.execute(stepOf(1))).rejects.toMatchObject({
      code: "UCM_ERR_TIMEOUT",
      message: expect.stringContaining("made no progress with a step for 0.2 s"),
    });
    const idle = await launchWorkers(hung, { workerEntry });
    groups.push(idle);
    const loss = await new Promise<UcmError>((resolve) => idle.onExit(resolve));
    expect(loss.message).toContain("gave no sign of life for 0.2 s");
  });

  it.each([
    ["garbage", "wrote something that is no message"],
    ["babbling", "sent no known message"],
    ["failing", "out of memory"],
  ])("takes down a worker that answers a step with %s", async (behaviour, expected) => {
    const group = await launch(`good-${behaviour}`);
    await expect(group.executor.execute(stepOf(1))).rejects.toThrow(expected);
    const again = group.executor.execute(stepOf(2));
    await expect(again).rejects.toMatchObject({
      code: "UCM_ERR_WORKER",
      message: expect.stringContaining(expected),
    });
    await until("the end of the worker", () => !isAlive(pidIn(output())));
  });

  it("takes all ranks down with one, and blames the one that died", async () => {
    const config = configFor("good");
    const parallel = { ...config.parallel, tensorParallelSize: 3 };
    const group = await launchWorkers({ ...config, parallel }, { workerEntry });
    groups.push(group);
    await group.executor.execute(stepOf(1));
    const pids = [...output().matchAll(/Worker_TP(\d) pid=(\d+)/g)].map(([, rank, pid]) => [
      Number(rank),
      Number(pid),
    ]);
    const victim = pids.find(([rank]) => rank === 1)![1]!;
    process.kill(victim, "SIGKILL");
    const loss = await new Promise<UcmError>((resolve) => group.onExit(resolve));
    expect(loss.message).toContain(`Worker_TP1 (pid ${victim}) was killed by SIGKILL`);
    await until("the end of all", () => pids.every(([, pid]) => !isAlive(pid!)));
  });

  it("kills a worker that heeds neither message nor SIGTERM", async () => {
    const group = await launch("good-deaf");
    await group.shutdown({ messageMs: 50, signalMs: 50 });
    expect(isAlive(pidIn(output()))).toBe(false);
  });

  it("does not call a stop an exit", async () => {
    const group = await launch("good");
    let exits = 0;
    group.onExit(() => {
      exits += 1;
    });
    await group.shutdown();
    expect(exits).toBe(0);
  });
});
