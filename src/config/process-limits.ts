import { readFileSync } from "node:fs";

/** Memory that limits of ulimit(1) leave to a process. */
export interface ProcessRoom {
  bytes: number;
  /** The option of ulimit that sets it. */
  option: string;
}

/** Limits of /proc/self/limits on memory, and what of /proc/self/status they are on. */
const limits = [
  { row: "Max address space", use: "VmSize", option: "ulimit -v" },
  { row: "Max data size", use: "VmData", option: "ulimit -d" },
];

/**
 * What a worker, which inherits the limits of this process, gets of memory beside what any process of
 * Node takes, for which this one stands. Null without a limit.
 */
export function readProcessRoom(): ProcessRoom | null {
  try {
    const limitsText = readFileSync("/proc/self/limits", "utf8");
    return tightestRoom(limitsText, readFileSync("/proc/self/status", "utf8"));
  } catch {
    return null;
  }
}

/** Of the texts of the two files. */
export function tightestRoom(limitsText: string, statusText: string): ProcessRoom | null {
  const rooms = limits.flatMap(({ row, use, option }) => {
    const limit = new RegExp(`^${row}\\s+(\\d+)`, "m").exec(limitsText)?.[1];
    const usedKib = Number(new RegExp(`^${use}:\\s+(\\d+) kB`, "m").exec(statusText)?.[1]);
    if (limit === undefined || Number.isNaN(usedKib)) return [];
    return [{ bytes: Math.max(0, Number(limit) - usedKib * 1024), option }];
  });
  return rooms.toSorted((a, b) => a.bytes - b.bytes)[0] ?? null;
}
