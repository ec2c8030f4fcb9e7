import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { until } from "../helpers/ucm-command.js";
import {
  exhaustMemory,
  KillLab,
  type Outcome,
  sharedMemoryNames,
  WORKER_TIMEOUT_S,
} from "./kill-lab.js";

/** The full count: `UCM_KILLS=500 npx vitest run test/integration/kills.test.ts` with figures. */
const isFull = process.env.UCM_KILLS !== undefined;
const NUM_KILLS = Number(process.env.UCM_KILLS ?? 4);
/** Far above what a kill takes: a machine may be busy with other tests. */
const MS_PER_KILL = 60_000;
/** What a stream or the health check may take to tell of a loss that can be noticed at once. */
const TELL_MS = 1_000;
/** For the machine's sake: figures are taken on a quiet one. */
const SLACK_MS = isFull ? 300 : 10_000;

const kinds = ["SIGKILL", "drain", "SIGSTOP", "parent", "memory", "SIGSEGV"] as const;
type Kind = (typeof kinds)[number];

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
let numRequests = 0;
let lab: KillLab;
const names = sharedMemoryNames();

beforeAll(async () => {
  lab = await KillLab.start();
});

afterAll(async () => {
  await lab.destroy();
  const line = (values: number[]) => {
    const sorted = values.toSorted((a, b) => a - b);
    const at = (share: number) => sorted[Math.floor(share * (sorted.length - 1))]?.toFixed(0);
    return sorted.length === 0 ? "-" : `${at(0.5)} / ${at(1)}`;
  };
  const rows = [...figures].map(
    ([kind, { detectionMs, deliveryMs, recoveryMs }]) =>
      `${kind.padEnd(8)} n=${recoveryMs.length} detection ${line(detectionMs)} ms, error delivery ${line(deliveryMs)} ms, recovery ${line(recoveryMs)} ms`,
  );
  console.log([`${numRequests} requests; median / greatest; seed ${seed}`, ...rows].join("\n"));
});

/** Ends a worker as `kind` says. */
async function strike(kind: Kind): Promise<void> {
  const workers = await lab.workers();
  const victim = workers[Math.floor(random() * workers.length)]!;
  if (kind === "memory") await exhaustMemory(victim);
  else process.kill(victim, kind as NodeJS.Signals);
}

/** The last end of the streams that were under way when the worker was struck. */
function deliveryMs(outcomes: readonly Outcome[], struckMs: number): number[] {
  const failed = outcomes.filter(
    ({ kind, startedMs }) => kind === "failed" && startedMs < struckMs,
  );
  return failed.length === 0 ? [] : [Math.max(...failed.map(({ endedMs }) => endedMs)) - struckMs];
}

async function loseWorker(kind: Kind): Promise<void> {
  const before = await lab.workers();
  lab.load(random);
  await pause(random() * 700);
  const struckMs = performance.now();
  await strike(kind);
  await until("detection", async () => (await lab.health()) === 503, MS_PER_KILL);
  const detectedMs = performance.now();
  // Now and then another falls while it loads.
  if (random() < 0.2) {
    await until("new workers", async () =>
      (await lab.workers()).some((pid) => !before.includes(pid)),
    );
    await pause(random() * 500);
    const [first] = await lab.workers();
    if (first !== undefined) process.kill(first, "SIGKILL");
  }
  await until("recovery", async () => (await lab.health()) === 200, MS_PER_KILL);
  const recoveredMs = performance.now();
  await pause(100);
  const outcomes = await lab.unload();
  numRequests += outcomes.length;
  const own = figures.get(kind)!;
  own.recoveryMs.push(recoveredMs - struckMs);
  const delivered = deliveryMs(outcomes, struckMs);
  // When a worker notices that it has no memory is its own affair.
  if (kind !== "memory") {
    own.detectionMs.push(detectedMs - struckMs);
    own.deliveryMs.push(...delivered);
    const limitMs = TELL_MS + SLACK_MS + (kind === "SIGSTOP" ? WORKER_TIMEOUT_S * 1000 : 0);
    expect(Math.max(detectedMs - struckMs, ...delivered)).toBeLessThan(limitMs);
  }
  await lab.gone(before, TELL_MS + SLACK_MS);
}

/** The parent dies, or is told to end and loses a worker while it drains. */
async function loseServer(kind: Kind): Promise<void> {
  const workers = await lab.workers();
  lab.load(random);
  await pause(random() * 700);
  const struckMs = performance.now();
  if (kind === "parent") lab.server.process.kill("SIGKILL");
  else {
    lab.server.process.kill("SIGTERM");
    await pause(random() * 60);
    if (random() < 0.5) await strike("SIGKILL").catch(() => {});
  }
  await lab.server.process;
  await lab.gone(workers, TELL_MS + SLACK_MS);
  // What was under way when the server was told to end has ended as it should.
  const mayBreakFromMs = kind === "parent" ? 0 : struckMs;
  numRequests += (await lab.unload(mayBreakFromMs)).length;
  expect(await lab.health()).toBeNull();
  lab = await KillLab.start(lab.expected);
  figures.get(kind)!.recoveryMs.push(performance.now() - struckMs);
}

describe(`${NUM_KILLS} kills at random moments`, () => {
  it(
    "end every request once and truthfully, and leave nothing behind",
    async () => {
      for (let i = 0; i < NUM_KILLS; i++) {
        const kind = kinds[i % kinds.length]!;
        await (kind === "parent" || kind === "drain" ? loseServer(kind) : loseWorker(kind));
        expect(sharedMemoryNames()).toEqual(names);
      }
    },
    NUM_KILLS * MS_PER_KILL,
  );
});
