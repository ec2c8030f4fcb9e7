import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { execa } from "execa";
import { until } from "./ucm-command.js";

const probe = join(import.meta.dirname, "probe.mjs");

/** What probe.mjs writes. */
export interface ProbeLine {
  atMs: number;
  /** Garbage was collected just before. */
  settled: boolean;
  rss: number;
  heapUsed: number;
  external: number;
  cpuMs: number;
  descriptors: number;
  /** Of the event loop, since the last settled line. */
  lagMs: { p50: number; p99: number; p999: number; max: number };
  pid: number;
}

/** Environment that makes a server write its lines to `file`. */
export function probeEnvironment(file: string): Record<string, string> {
  return { PROBE_FILE: file, NODE_OPTIONS: `--import ${probe}` };
}

export function readProbe(file: string): ProbeLine[] {
  if (!existsSync(file)) return [];
  const lines = readFileSync(file, "utf8").split("\n").slice(0, -1);
  return lines.map((line) => JSON.parse(line) as ProbeLine);
}

/** Has the process collect its garbage; the line that it writes then, with the lag until now. */
export async function settle(file: string): Promise<ProbeLine> {
  await until("a line of the probe", () => readProbe(file).length > 0);
  const settled = () => readProbe(file).filter((line) => line.settled);
  const before = settled().length;
  process.kill(readProbe(file)[0]!.pid, "SIGUSR2");
  await until("a settled line of the probe", () => settled().length > before);
  return settled().at(-1)!;
}

/** A process that does nothing but be probed: the lag that it has is the machine's. */
export function startIdle(file: string): { stop(): Promise<void> } {
  const script = "setInterval(() => {}, 1e6)";
  const child = execa(process.execPath, ["--import", probe, "-e", script, "serve"], {
    env: { PROBE_FILE: file },
    reject: false,
  });
  return {
    async stop() {
      child.kill();
      await child;
    },
  };
}
