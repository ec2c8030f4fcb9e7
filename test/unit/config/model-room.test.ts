import { describe, expect, it } from "vitest";
import { type WorkerRoom, workerRoom } from "../../../src/config/model-room.js";
import { readProcessRoom, tightestRoom } from "../../../src/config/process-limits.js";

const GIB = 2 ** 30;
const machine = {
  availableBytes: 8 * GIB,
  isContainer: false,
  processRoom: null,
  cores: 2,
  coreIds: [0, 1],
};

describe("workerRoom", () => {
  it.each<[object, WorkerRoom]>([
    [
      {},
      {
        bytes: 2 * GIB,
        source: "8.00 GiB of memory are free for 2 workers, --gpu-memory-utilization is 0.5",
      },
    ],
    [
      { isContainer: true },
      {
        bytes: 2 * GIB,
        source:
          "8.00 GiB within the container's memory limit are free for 2 workers, --gpu-memory-utilization is 0.5",
      },
    ],
    [
      { processRoom: { bytes: GIB, option: "ulimit -d" } },
      { bytes: GIB, source: "ulimit -d leaves it so much" },
    ],
    [
      { processRoom: { bytes: 3 * GIB, option: "ulimit -d" } },
      {
        bytes: 2 * GIB,
        source: "8.00 GiB of memory are free for 2 workers, --gpu-memory-utilization is 0.5",
      },
    ],
  ])("is the least of what there is: %j", (changes, expected) => {
    expect(workerRoom({ ...machine, ...changes }, 0.5, 2)).toEqual(expected);
  });
});

describe("the room of a process", () => {
  const status = "Name:\tnode\nVmSize:\t 2000 kB\nVmData:\t  500 kB\n";
  const limitsOf = (data: string, space: string) =>
    `Limit                     Soft Limit           Hard Limit           Units\nMax data size             ${data}            unlimited            bytes\nMax address space         ${space}            unlimited            bytes\n`;

  it.each([
    ["unlimited", "unlimited", null],
    ["1512000", "unlimited", { bytes: 1_000_000, option: "ulimit -d" }],
    ["1512000", "2048512", { bytes: 512, option: "ulimit -v" }],
    ["1512000", "1000", { bytes: 0, option: "ulimit -v" }],
  ])("with %s bytes of data and %s of addresses", (data, space, expected) => {
    expect(tightestRoom(limitsOf(data, space), status)).toEqual(expected);
  });

  it("is read from the system", () => {
    expect(readProcessRoom()?.bytes ?? 1).toBeGreaterThan(0);
  });
});
