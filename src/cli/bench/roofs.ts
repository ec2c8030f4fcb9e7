import { execa } from "execa";
import type { EngineConfig } from "../../config/engine-config.js";
import { inspectMachine } from "../../config/machine.js";
import { nativeBuildPath } from "../package-files.js";
import { centre, row } from "./serve-report.js";

/**
 * What the machine can do at best with the instructions in use (`UCM_CPU_ISA`), measured now; operations
 * count multiply and add apart.
 */
export interface Roofs {
  isa: string;
  threads: number;
  readBytesPerS: number;
  fp32FlopsPerS: number;
  /** Of bfloat16 pairs; 0 without such instructions. */
  bf16FlopsPerS: number;
  /** Of bytes, added up in 32 bits; 0 without vectors. */
  int8OpsPerS: number;
}

/** Measures memory and arithmetic on `threads` threads (null: all); takes under a second of each. */
export async function measureRoofs(threads: number | null): Promise<Roofs> {
  const program = nativeBuildPath("machine_roofs");
  const { stdout } = await execa(program, [String(threads ?? inspectMachine().cores)]);
  return JSON.parse(stdout) as Roofs;
}

/** The roof of a model's products, which are of bytes with int8 weights. */
export function productsPerS(
  { model }: Pick<EngineConfig, "model">,
  { int8OpsPerS, fp32FlopsPerS }: Roofs,
): number {
  return model.quantization === "int8" && int8OpsPerS > 0 ? int8OpsPerS : fp32FlopsPerS;
}

const RATES = [
  ["Memory reads (GB/s):", "readBytesPerS"],
  ["FP32 multiply-adds (GFLOP/s):", "fp32FlopsPerS"],
  ["BF16 pairs (GFLOP/s):", "bf16FlopsPerS"],
  ["INT8 multiply-adds (GOP/s):", "int8OpsPerS"],
] as const;

/** The roofs in the columns of the reports, without those that are 0. */
export function renderRoofs(roofs: Roofs): string {
  const rates = RATES.filter(([, key]) => roofs[key] > 0);
  return [
    centre("Machine's Roof, Same Run", "-"),
    row("Instruction set:", roofs.isa),
    row("Threads:", roofs.threads),
    ...rates.map(([label, key]) => row(label, (roofs[key] / 1e9).toFixed(2))),
  ].join("\n");
}
