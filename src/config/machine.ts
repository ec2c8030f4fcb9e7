import { readFileSync } from "node:fs";
import { availableParallelism, freemem, totalmem } from "node:os";
import { type ProcessRoom, readProcessRoom } from "./process-limits.js";

/** What the machine, or the container, has left for a model. */
export interface Machine {
  availableBytes: number;
  /** The bound of availableBytes is the limit of a cgroup. */
  isContainer: boolean;
  /** Null when processes have no limit of their own. */
  processRoom: ProcessRoom | null;
  cores: number;
  /** Numbers of the cores that this process may run on. */
  coreIds: readonly number[];
}

/** Memory is the smaller of MemAvailable and what the cgroup's limit leaves. */
export function inspectMachine(): Machine {
  const limit = process.constrainedMemory() ?? 0;
  const isLimited = limit > 0 && limit < totalmem();
  const room = isLimited ? (process.availableMemory?.() ?? limit) : Number.POSITIVE_INFINITY;
  const freeBytes = freemem();
  return {
    availableBytes: Math.min(freeBytes, room),
    isContainer: room < freeBytes,
    processRoom: readProcessRoom(),
    cores: availableParallelism(),
    coreIds: allowedCores(),
  };
}

/** Of a list such as `0-3,8`; none where the system does not tell. */
function allowedCores(): number[] {
  try {
    const status = readFileSync("/proc/self/status", "utf8");
    const list = /^Cpus_allowed_list:\s*(\S+)$/m.exec(status)?.[1] ?? "";
    return list.split(",").flatMap((range) => {
      const [first = 0, last = first] = range.split("-").map(Number);
      return Array.from({ length: last - first + 1 }, (_, i) => first + i);
    });
  } catch {
    return [];
  }
}
