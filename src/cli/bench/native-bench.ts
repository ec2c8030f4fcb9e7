import { cpus } from "node:os";
import { ExecaError, execa } from "execa";
import { UcmError } from "../../errors/index.js";
import { nativeBuildPath, readVersion } from "../package-files.js";
import { centre, row } from "./serve-report.js";

/** What was measured on: part of every result. */
export interface MeasuredMachine {
  ucm: string;
  processor: string;
  cores: number;
}

/**
 * Runs a benchmark of the native build and returns what it printed, one object per line.
 * UCM_ERR_NATIVE with its own words when it fails, or is not built.
 */
export async function runNativeBench<T>(
  program: "attention_bench" | "store_bench",
  args: readonly string[],
  signal: AbortSignal,
): Promise<T[]> {
  try {
    const { stdout } = await execa(nativeBuildPath(program), args, { cancelSignal: signal });
    return stdout.split("\n").map((line) => JSON.parse(line) as T);
  } catch (error) {
    if (signal.aborted || !(error instanceof ExecaError)) throw error;
    const words = error.stderr || error.shortMessage;
    throw new UcmError("UCM_ERR_NATIVE", `${program} failed: ${words}`, { cause: error });
  }
}

export function measuredMachine(): MeasuredMachine {
  const all = cpus();
  return { ucm: readVersion(), processor: all[0]?.model.trim() ?? "unknown", cores: all.length };
}

/** The flags that a result depends on, in the order of the table. */
export function settingsOf(flags: object): Record<string, unknown> {
  return Object.fromEntries(Object.entries(flags).filter(([name]) => name !== "json"));
}

/** Machine and settings above the figures. */
export function renderSettings(
  machine: MeasuredMachine,
  settings: Record<string, unknown>,
): string {
  return [
    centre("Machine and Settings", "-"),
    row("Processor:", machine.processor),
    row("Cores:", machine.cores),
    ...Object.entries(settings).map(([name, value]) => row(`${name}:`, String(value))),
  ].join("\n");
}

/** The share of a roof, as reports print it. */
export function percentOf(part: number): string {
  return `${(100 * part).toFixed(0)} %`;
}
