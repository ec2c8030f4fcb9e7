import { execa } from "execa";
import { inspectMachine } from "../../config/machine.js";
import { nativeBuildPath } from "../package-files.js";
import { centre, row } from "./serve-report.js";

/** What the machine can do at best, measured now; operations count multiply and add apart. */
export interface Roofs {
  threads: number;
  readBytesPerS: number;
  flopsPerS: number;
  /** 0 on a processor without such instructions. */
  int8OpsPerS: number;
}

/** Measures memory and arithmetic on `threads` threads (null: all); takes under a second of each. */
export async function measureRoofs(threads: number | null): Promise<Roofs> {
  const program = nativeBuildPath("machine_roofs");
  const { stdout } = await execa(program, [String(threads ?? inspectMachine().cores)]);
  return JSON.parse(stdout) as Roofs;
}

/** The roofs in the columns of the reports. */
export function renderRoofs({ threads, readBytesPerS, flopsPerS, int8OpsPerS }: Roofs): string {
  return [
    centre("Machine's Roof, Same Run", "-"),
    row("Threads:", threads),
    row("Memory reads (GB/s):", (readBytesPerS / 1e9).toFixed(2)),
    row("FP32 multiply-adds (GFLOP/s):", (flopsPerS / 1e9).toFixed(2)),
    ...(int8OpsPerS === 0
      ? []
      : [row("INT8 multiply-adds (GOP/s):", (int8OpsPerS / 1e9).toFixed(2))]),
  ].join("\n");
}
