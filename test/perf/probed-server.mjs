// A server of the built command with the probe of test/helpers in it, and clients that time its streams.

import { spawn } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import http from "node:http";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

const root = resolve(import.meta.dirname, "../..");

/** Starts `ucm serve` on the demo model; `nodeArgs` such as --cpu-prof go to its parent process. */
export async function startProbed(args, nodeArgs = []) {
  const folder = mkdtempSync(join(tmpdir(), "ucm-perf-"));
  const file = join(folder, "probe");
  const command = [join(root, "bin/ucm.js"), "serve", join(root, "models/ucm-demo"), ...args];
  const probe = ["--import", join(root, "test/helpers/probe.mjs")];
  const child = spawn(
    process.execPath,
    [...probe, ...nodeArgs, ...command, "--port", "0", "--disable-uvicorn-access-log"],
    { env: { ...process.env, PROBE_FILE: file }, stdio: ["ignore", "pipe", "inherit"] },
  );
  let output = "";
  child.stdout.on("data", (data) => {
    output += data;
  });
  while (!output.includes("Application startup complete.")) {
    if (child.exitCode !== null) throw new Error(`The server did not start:\n${output}`);
    await sleep(100);
  }
  const port = Number(/Starting ucm server on http:\/\/0\.0\.0\.0:(\d+)/.exec(output)[1]);
  const lines = () => {
    const text = existsSync(file) ? readFileSync(file, "utf8") : "";
    return text
      .split("\n")
      .slice(0, -1)
      .map((line) => JSON.parse(line));
  };
  return {
    port,
    pid: child.pid,
    lines,
    /** Collects garbage, and counts lag from here on; the line written. */
    async settle() {
      const count = () => lines().filter((line) => line.settled).length;
      const before = count();
      child.kill("SIGUSR2");
      while (count() === before) await sleep(100);
      return lines().findLast((line) => line.settled);
    },
    async stop() {
      child.kill("SIGTERM");
      await new Promise((done) => child.once("exit", done));
      rmSync(folder, { recursive: true });
    },
  };
}

const agent = new http.Agent({ keepAlive: true, maxSockets: Infinity });

/**
 * Sends a request and times its answer. Resolves to `{status, tokens, ttftMs, tpotMs, totalMs}`; status
 * 0 when the connection broke, or `leaveAfterMs` was over.
 */
export function send(port, path, body, { leaveAfterMs = null } = {}) {
  const text = JSON.stringify(
    body.stream ? { ...body, stream_options: { include_usage: true } } : body,
  );
  const startedMs = performance.now();
  return new Promise((done) => {
    let status = 0;
    let firstMs = null;
    let tail = "";
    const finish = () => {
      const totalMs = performance.now() - startedMs;
      const tokens = Number(/"completion_tokens":(\d+)/.exec(tail)?.[1] ?? 0);
      const ttftMs = firstMs === null ? null : firstMs - startedMs;
      const tpotMs = tokens > 1 && ttftMs !== null ? (totalMs - ttftMs) / (tokens - 1) : null;
      done({ status, tokens, ttftMs, tpotMs, totalMs });
    };
    const headers = { "content-type": "application/json" };
    const request = http.request({ port, path, method: "POST", agent, headers }, (response) => {
      response.setEncoding("utf8");
      response.on("data", (data) => {
        firstMs ??= performance.now();
        tail = (tail + data).slice(-2000);
      });
      response.on("end", () => {
        status = response.statusCode;
        finish();
      });
      response.on("error", finish);
    });
    request.on("error", finish);
    request.end(text);
    if (leaveAfterMs !== null) setTimeout(() => request.destroy(), leaveAfterMs);
  });
}

/** The value below which `share` of the values are. */
export function percentile(values, share) {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.floor(share * (sorted.length - 1))] ?? Number.NaN;
}

/** Lag of the event loop, as printed. */
export function describeLag({ p50, p99, p999, max }) {
  const [a, b, c, d] = [p50, p99, p999, max].map((ms) => ms.toFixed(1));
  return `event loop lag p50 ${a} p99 ${b} p99.9 ${c} max ${d} ms`;
}
