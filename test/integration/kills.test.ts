import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { makeTempFolder } from "../helpers/temp-folder.js";
import { childrenOf, until } from "../helpers/ucm-command.js";
import {
  exhaustMemory,
  KillLab,
  type Outcome,
  sharedMemoryNames,
  WORKER_TIMEOUT_S,
} from "./kill-lab.js";

/** The full count: `UCM_KILLS=500 npx vitest run test/integration/kills.test.ts`. */
const NUM_KILLS = Number(process.env.UCM_KILLS ?? 4);
/** Far above what a kill takes: a machine may be busy with other tests. */
const MS_PER_KILL = 300_000;
/** What a stream or the health check takes on a quiet machine at most; the figures count what takes longer. */
const TELL_MS = 1_000;
/** A busy machine is no fault: what takes longer than this never happens. */
const PATIENCE_MS = 120_000;

/** How long a worker that gets no more memory may go on without needing any. */
const SHORTAGE_MS = 5_000;

const kinds = ["SIGKILL", "start", "drain", "SIGSTOP", "parent", "memory", "SIGSEGV"] as const;
type Kind = (typeof kinds)[number];
const signals = ["SIGKILL", "SIGSEGV", "SIGSTOP", "memory"] as const;

const seed = Number(process.env.UCM_KILLS_SEED ?? Date.now() % 1_000_000);
let state = seed;
/** Uniform in [0, 1); the seed is printed, so that a failure can be run again. */
function random(): number {
  state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
  return state / 2 ** 32;
}
const pause = (ms: number) => new Promise((done) => setTimeout(done, ms));

interface Figures {
  detectionMs: number[];
  deliveryMs: number[];
  recoveryMs: number[];
}
const figures = new Map<Kind, Figures>(
  kinds.map((kind) => [kind, { detectionMs: [], deliveryMs: [], recoveryMs: [] }]),
);
let numKills = 0;
let numRequests = 0;
let numCachedTokens = 0;
/** From the start of a server to its first answer, as last seen. */
let startMs = 0;
let lab: KillLab;
const storeFolder = makeTempFolder();
const names = sharedMemoryNames();

beforeAll(async () => {
  const beganMs = performance.now();
  lab = await KillLab.start(storeFolder);
  startMs = performance.now() - beganMs;
});

afterAll(async () => {
  await lab.destroy();
  if (numKills < NUM_KILLS) console.log(lab.server.lines.slice(-80).join("\n"));
  const line = (values: number[]) => {
    const sorted = values.toSorted((a, b) => a - b);
    const at = (share: number) => sorted[Math.floor(share * (sorted.length - 1))]?.toFixed(0);
    const numLate = sorted.filter((value) => value > TELL_MS).length;
    return sorted.length === 0 ? "-" : `${at(0.5)} / ${at(0.99)} / ${at(1)} (${numLate})`;
  };
  const rows = [...figures].map(
    ([kind, { detectionMs, deliveryMs, recoveryMs }]) =>
      `${kind.padEnd(8)} n=${recoveryMs.length} detection ${line(detectionMs)} ms, error delivery ${line(deliveryMs)} ms, recovery ${line(recoveryMs)} ms`,
  );
  console.log(
    [
      `${numKills} kills, ${numRequests} requests, ${numCachedTokens} of their tokens from the store; seed ${seed}`,
      `median / 99th of 100 / greatest (how many above ${TELL_MS} ms)`,
      ...rows,
    ].join("\n"),
  );
});

function oneOf<T>(choices: readonly T[]): T {
  return choices[Math.floor(random() * choices.length)]!;
}

/** Ends a worker as `kind` says; one that has ended by itself cannot be struck. */
async function strike(kind: Kind, workers: readonly number[]): Promise<void> {
  const victim = oneOf(workers);
  if (kind === "memory") await exhaustMemory(victim);
  else process.kill(victim, kind as NodeJS.Signals);
}

function count(outcomes: readonly Outcome[]): void {
  numRequests += outcomes.length;
  for (const { cachedTokens } of outcomes) numCachedTokens += cachedTokens;
}

/** The last end of the streams that were under way when the worker was struck. */
function deliveryMs(outcomes: readonly Outcome[], struckMs: number): number[] {
  const failed = outcomes.filter(
    ({ kind, startedMs }) => kind === "failed" && startedMs < struckMs,
  );
  return failed.length === 0 ? [] : [Math.max(...failed.map(({ endedMs }) => endedMs)) - struckMs];
}

/** Both workers of a server that is well: it may still have to notice what fell in its last start. */
async function soundWorkers(): Promise<number[]> {
  let workers: number[] = [];
  await until("a sound server", async () => {
    workers = await lab.workers();
    return workers.length === 2 && (await lab.health()) === 200;
  });
  return workers;
}

async function loseWorker(kind: Kind): Promise<void> {
  const before = await soundWorkers();
  lab.load(random);
  await pause(random() * 700);
  const totals = await lab.totals();
  const struckMs = performance.now();
  await strike(kind, before);
  const isDown = async () => (await lab.health()) === 503;
  if (kind === "memory") {
    // One that needs no more memory goes on, and its answers are right.
    await until("a shortage", isDown, SHORTAGE_MS).catch(() => strike("SIGKILL", before));
  }
  await until("detection", isDown, MS_PER_KILL);
  const detectedMs = performance.now();
  // Now and then another falls while it loads.
  if (random() < 0.2) {
    let young: number[] = [];
    await until("new workers", async () => {
      young = (await lab.workers()).filter((pid) => !before.includes(pid));
      return young.length > 0;
    });
    await pause(random() * 500);
    await strike(oneOf(signals), young).catch(() => {});
  }
  await until("recovery", async () => (await lab.health()) === 200, MS_PER_KILL);
  const recoveredMs = performance.now();
  await pause(100);
  const outcomes = await lab.unload();
  count(outcomes);
  const totalsNow = await lab.totals();
  for (const [series, value] of totals) {
    expect([series, totalsNow.get(series)]).toSatisfy(([, now]) => now >= value);
  }
  const own = figures.get(kind)!;
  own.recoveryMs.push(recoveredMs - struckMs);
  // When a worker notices that it has no memory is its own affair.
  if (kind !== "memory") {
    const noticedMs = struckMs + (kind === "SIGSTOP" ? WORKER_TIMEOUT_S * 1000 : 0);
    const delivered = deliveryMs(outcomes, noticedMs);
    own.detectionMs.push(detectedMs - noticedMs);
    own.deliveryMs.push(...delivered);
    expect(Math.max(detectedMs - noticedMs, ...delivered)).toBeLessThan(PATIENCE_MS);
  }
  await lab.gone(before, PATIENCE_MS);
}

/** The parent dies, or is told to end and loses a worker while it drains. */
async function loseServer(kind: Kind): Promise<void> {
  const workers = await soundWorkers();
  lab.load(random);
  await pause(random() * 700);
  const struckMs = performance.now();
  if (kind === "parent") lab.server.process.kill("SIGKILL");
  else {
    lab.server.process.kill("SIGTERM");
    await pause(random() * 60);
    if (random() < 0.5) await strike(oneOf(signals), workers).catch(() => {});
  }
  const { exitCode, signal, stderr } = await lab.server.process;
  if (kind === "drain") expect({ exitCode, signal }, stderr).toMatchObject({ exitCode: 0 });
  // What was under way when the server was told to end has ended as it should.
  count(
    await lab.unload(kind === "parent" ? { kind: "killed" } : { kind: "told", atMs: struckMs }),
  );
  figures.get(kind)!.recoveryMs.push(await startAnew());
}

/** Something falls while the server starts: it says so and ends, or was faster. */
async function loseStart(): Promise<void> {
  expect(await lab.server.terminate()).toBe(0);
  await lab.leftNothing(PATIENCE_MS);
  lab = await KillLab.begin(storeFolder, lab.expected);
  const parent = lab.server.process;
  const started = lab.server.ready().then(
    () => null,
    (error: Error) => error.message,
  );
  const victim = oneOf(["parent", "SIGTERM", ...signals] as const);
  if (victim === "parent" || victim === "SIGTERM") {
    await pause(random() * startMs);
    parent.kill(victim === "parent" ? "SIGKILL" : victim);
  } else {
    let workers: number[] = [];
    await until("workers", async () => {
      workers = await childrenOf(parent.pid!);
      return workers.length === 2;
    });
    await pause(random() * 0.6 * startMs);
    await strike(victim, workers).catch(() => {});
  }
  const struckMs = performance.now();
  const message = await started;
  if (message !== null && signals.some((signal) => signal === victim)) {
    // A worker without memory may still say so, which is 2.
    expect((await parent).exitCode).toBeOneOf(victim === "memory" ? [1, 2] : [1]);
    expect(message.match(/error: /g)).toHaveLength(1);
    expect(message).not.toMatch(/^\s+at /m);
    figures.get("start")!.deliveryMs.push(performance.now() - struckMs);
  }
  if (message === null) parent.kill("SIGTERM");
  await parent;
  figures.get("start")!.recoveryMs.push(await startAnew());
}

/** Checks what an ended server has left, and starts another; how long that takes, in ms. */
async function startAnew(): Promise<number> {
  await lab.leftNothing(PATIENCE_MS);
  expect(await lab.health()).toBeNull();
  const beganMs = performance.now();
  lab = await KillLab.start(storeFolder, lab.expected);
  startMs = performance.now() - beganMs;
  return startMs;
}

describe(`${NUM_KILLS} kills at random moments`, () => {
  it(
    "end every request once and truthfully, and leave nothing behind",
    async () => {
      for (; numKills < NUM_KILLS; numKills++) {
        const kind = kinds[numKills % kinds.length]!;
        if (kind === "start") await loseStart();
        else await (kind === "parent" || kind === "drain" ? loseServer(kind) : loseWorker(kind));
        expect(sharedMemoryNames()).toEqual(names);
      }
      await lab.server.terminate();
      await lab.leftNothing(PATIENCE_MS);
      expect(numCachedTokens).toBeGreaterThan(0);
    },
    NUM_KILLS * MS_PER_KILL,
  );
});
