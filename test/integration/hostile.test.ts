import { readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { runCampaign } from "../helpers/hostile/campaign.js";
import { startWitness } from "../helpers/hostile/witness.js";
import { probeEnvironment, settle, startIdle } from "../helpers/probed.js";
import { type RunningServer, startServer } from "../helpers/serve.js";
import { makeTempFolder } from "../helpers/temp-folder.js";
import { childrenOf, demoModel } from "../helpers/ucm-command.js";

/**
 * Requests that no client should send, to a server of the built command with a client that behaves
 * beside them. UCM_HOSTILE_REQUESTS=100000 for the full count, UCM_HOSTILE_SEED for others.
 */
const count = Number(process.env.UCM_HOSTILE_REQUESTS ?? 1000);
const seed = Number(process.env.UCM_HOSTILE_SEED ?? 20_240_607);
/** Memory is compared from here on: caches and pools are full. */
const warmUp = Math.ceil(count / 5);
/** Fewer requests say nothing about growth: V8 is still making room. */
const isFull = count >= 20_000;

const probeFile = join(makeTempFolder(), "probe");
const idleFile = join(makeTempFolder(), "idle");
const idle = startIdle(idleFile);
let server: RunningServer;

beforeAll(async () => {
  server = await startServer(
    [
      ...[
        demoModel,
        "--max-model-len",
        "256",
        "--max-num-seqs",
        "32",
        "--trust-request-chat-template",
      ],
      ...[
        "--enable-auto-tool-choice",
        "--tool-call-parser",
        "hermes",
        "--reasoning-parser",
        "qwen3",
      ],
      ...["--disable-uvicorn-access-log"],
    ],
    { env: probeEnvironment(probeFile) },
  );
});
afterAll(async () => {
  await server.stop();
  await idle.stop();
});

const residentKib = (pid: number) =>
  Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1]);

/** Lets what is under way end. */
async function untilIdle(): Promise<void> {
  for (;;) {
    const metrics = await (await fetch(`${server.url}/metrics`)).text();
    const busy = [...metrics.matchAll(/^vllm:num_requests_(?:running|waiting)\{.*\} (\d+)/gm)];
    expect(busy.length).toBeGreaterThan(1);
    if (busy.every(([, value]) => value === "0")) return;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

async function snapshot() {
  await untilIdle();
  const line = await settle(probeFile);
  const workers = await childrenOf(line.pid);
  return { ...line, workersKib: workers.map(residentKib) };
}

const mib = (bytes: number) => `${(bytes / 2 ** 20).toFixed(1)} MiB`;
const growth = (before: number, after: number) => `${((after / before - 1) * 100).toFixed(2)} %`;
const at = (times: readonly number[], share: number) =>
  [...times].sort((a, b) => a - b)[Math.floor(share * (times.length - 1))]!.toFixed(0);

describe(`${count} hostile requests`, () => {
  it(
    "are answered or refused, and harm neither the server nor who is beside them",
    async () => {
      const startedMs = performance.now();
      const witness = await startWitness(server.url);
      const { pid } = await settle(probeFile);
      const progress = (done: number) => {
        if (done % 5000 === 0)
          console.log(
            `${done} after ${((performance.now() - startedMs) / 1000).toFixed(0)} s, server ${mib(residentKib(pid) * 1024)}`,
          );
      };
      const first = await runCampaign({ url: server.url, count: warmUp, seed });
      const before = await snapshot();
      await settle(idleFile);
      const second = await runCampaign({
        ...{ url: server.url, count: count - warmUp, seed: seed + 1, onProgress: progress },
      });
      const lag = (await settle(probeFile)).lagMs;
      const idleLag = (await settle(idleFile)).lagMs;
      await witness.stop();
      const after = await snapshot();

      const statuses: Record<string, number> = {};
      for (const [status, number] of [first, second].flatMap((part) =>
        Object.entries(part.statuses),
      )) {
        statuses[status] = (statuses[status] ?? 0) + number;
      }
      console.log(
        [
          `${count} hostile requests, seed ${seed}, ${((performance.now() - startedMs) / 1000).toFixed(0)} s: ${JSON.stringify(statuses)}`,
          `event loop lag p50 ${lag.p50.toFixed(1)} p99 ${lag.p99.toFixed(1)} p99.9 ${lag.p999.toFixed(1)} max ${lag.max.toFixed(0)} ms (an idle process: p99 ${idleLag.p99.toFixed(1)}, p99.9 ${idleLag.p999.toFixed(1)})`,
          `server RSS ${mib(before.rss)} -> ${mib(after.rss)} (${growth(before.rss, after.rss)}), heap ${mib(before.heapUsed)} -> ${mib(after.heapUsed)}, external ${mib(before.external)} -> ${mib(after.external)}, descriptors ${before.descriptors} -> ${after.descriptors}, workers ${before.workersKib} -> ${after.workersKib} KiB`,
          `beside them: ${witness.count} answers, ${witness.complaints.length} wrong, p50 ${at(witness.timesMs, 0.5)} p99 ${at(witness.timesMs, 0.99)} max ${at(witness.timesMs, 1)} ms`,
        ].join("\n"),
      );
      expect([...first.complaints, ...second.complaints]).toEqual([]);
      expect(witness.complaints).toEqual([]);
      expect(witness.count).toBeGreaterThan(5);
      expect(server.output()).not.toMatch(/\n\s+at .*\.js:\d+/);
      expect(after.workersKib.length).toBe(before.workersKib.length);
      expect(statuses["200"]).toBeGreaterThan(count / 20);
      expect(statuses["400"]).toBeGreaterThan(count / 5);
      if (isFull) {
        expect(after.rss / before.rss).toBeLessThan(1.01);
        expect(after.descriptors - before.descriptors).toBeLessThan(5);
      }
    },
    Math.max(300_000, count * 100),
  );
});
