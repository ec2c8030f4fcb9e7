import { readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { runCampaign } from "../helpers/hostile/campaign.js";
import { startWitness } from "../helpers/hostile/witness.js";
import {
  type ProbeLine,
  probeEnvironment,
  readProbe,
  settle,
  startIdle,
} from "../helpers/probed.js";
import { type RunningServer, startServer } from "../helpers/serve.js";
import { makeTempFolder } from "../helpers/temp-folder.js";
import { childrenOf, demoModel, until } from "../helpers/ucm-command.js";

/**
 * Requests that no client should send, to a server of the built command with a client that behaves
 * beside them. UCM_HOSTILE_REQUESTS=100000 for the full count, UCM_HOSTILE_SEED for others.
 */
const count = Number(process.env.UCM_HOSTILE_REQUESTS ?? 1000);
const seed = Number(process.env.UCM_HOSTILE_SEED ?? 20_240_607);
/** Memory is compared from here on: caches and pools are full. */
const warmUp = Math.ceil(count / 5);
/**
 * Of the requests after that; memory is read after each, garbage collected. What is resident scatters by a
 * fifth between such readings, as threads that compile grammars come and go; what is left of the heap does not.
 */
const portions = 8;
/** Fewer requests say nothing about growth: what stays of the heap rises by 3 % over the first 40,000 and no more. */
const isFull = count >= 100_000;

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

const { median } = await import(new URL("../perf/statistics.mjs", import.meta.url).href);

const mib = (bytes: number) => `${(bytes / 2 ** 20).toFixed(1)} MiB`;
type Lag = ProbeLine["lagMs"];
const worst = (lags: readonly Lag[], key: keyof Lag) =>
  Math.max(...lags.map((lag) => lag[key])).toFixed(1);
const at = (times: readonly number[], share: number) =>
  [...times].sort((a, b) => a - b)[Math.floor(share * (times.length - 1))]!.toFixed(0);

describe(`${count} hostile requests`, () => {
  it(
    "are answered or refused, and harm neither the server nor who is beside them",
    async () => {
      const startedMs = performance.now();
      const witness = await startWitness(server.url);
      const first = await runCampaign({ url: server.url, count: warmUp, seed });
      const memory = [await snapshot()];
      await settle(idleFile);
      const campaigns = [first];
      const lags: Lag[] = [];
      for (let portion = 1; portion <= portions; portion++) {
        const it = { url: server.url, count: Math.ceil((count - warmUp) / portions) };
        campaigns.push(await runCampaign({ ...it, seed: seed + portion }));
        lags.push((await settle(probeFile)).lagMs);
        memory.push(await snapshot());
      }
      const idleLag = (await settle(idleFile)).lagMs;
      await witness.stop();

      const statuses: Record<string, number> = {};
      for (const [status, number] of campaigns.flatMap((part) => Object.entries(part.statuses))) {
        statuses[status] = (statuses[status] ?? 0) + number;
      }
      const [before, after] = [memory[0]!, memory.at(-1)!];
      const used = memory.map(({ heapUsed, external }) => heapUsed + external);
      const half = Math.ceil(used.length / 2);
      const growth = median(used.slice(-half)) / median(used.slice(0, half));
      console.log(
        [
          `${count} hostile requests, seed ${seed}, ${((performance.now() - startedMs) / 1000).toFixed(0)} s: ${JSON.stringify(statuses)}`,
          `event loop lag of the worst portion: p50 ${worst(lags, "p50")} p99 ${worst(lags, "p99")} p99.9 ${worst(lags, "p999")} max ${worst(lags, "max")} ms (an idle process: p99 ${idleLag.p99.toFixed(1)}, p99.9 ${idleLag.p999.toFixed(1)})`,
          `heap and external memory ${used.map(mib).join(", ")}: ${((growth - 1) * 100).toFixed(2)} % from half to half`,
          `server RSS ${memory.map(({ rss }) => mib(rss)).join(", ")}; descriptors ${before.descriptors} -> ${after.descriptors}, workers ${before.workersKib} -> ${after.workersKib} KiB`,
          `beside them: ${witness.count} answers, ${witness.complaints.length} wrong, p50 ${at(witness.timesMs, 0.5)} p99 ${at(witness.timesMs, 0.99)} max ${at(witness.timesMs, 1)} ms`,
        ].join("\n"),
      );
      expect(campaigns.flatMap(({ complaints }) => complaints)).toEqual([]);
      expect(witness.complaints).toEqual([]);
      expect(witness.count).toBeGreaterThan(5);
      expect(server.output()).not.toMatch(/\n\s+at .*\.js:\d+/);
      expect(after.workersKib.length).toBe(before.workersKib.length);
      expect(statuses["200"]).toBeGreaterThan(count / 20);
      expect(statuses["400"]).toBeGreaterThan(count / 5);
      if (isFull) {
        expect(growth).toBeLessThan(1.01);
        // Connections that attackers left open end by their timeouts.
        const open = () => readProbe(probeFile).at(-1)!.descriptors;
        await until("descriptors to be closed", () => open() - before.descriptors < 5);
      }
    },
    Math.max(300_000, count * 100),
  );
});
