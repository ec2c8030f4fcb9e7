import { availableParallelism, freemem, totalmem } from "node:os";

/** What the machine, or the container, has left for a model. */
export interface Machine {
  availableBytes: number;
  cores: number;
}

/** Memory is the smaller of MemAvailable and what the cgroup's limit leaves. */
export function inspectMachine(): Machine {
  const limit = process.constrainedMemory() ?? 0;
  const isLimited = limit > 0 && limit < totalmem();
  const room = isLimited ? (process.availableMemory?.() ?? limit) : Number.POSITIVE_INFINITY;
  return { availableBytes: Math.min(freemem(), room), cores: availableParallelism() };
}
