import { cpus } from "node:os";
import { ExecaError, execa } from "execa";
import { UcmError } from "../../errors/index.js";
import { nativeBuildPath, readVersion } from "../package-files.js";
import { watchStopSignals } from "../stop-signals.js";
import { centre, row } from "./serve-report.js";

/** What was measured on: part of every result. */
interface MeasuredMachine {
  ucm: string;
  processor: string;
  cores: number;
}

type NativeBench = "attention_bench" | "store_bench";

/**
 * Runs a benchmark of the native build and returns what it printed, one object per line.
 * UCM_ERR_NATIVE with its own words when it fails, or is not built.
 */
async function runNativeBench<T>(
  program: NativeBench,
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

function measuredMachine(): MeasuredMachine {
  const all = cpus();
  return { ucm: readVersion(), processor: all[0]?.model.trim() ?? "unknown", cores: all.length };
}

/** The flags that a result depends on, in the order of the table. */
function settingsOf(flags: object): Record<string, unknown> {
  return Object.fromEntries(Object.entries(flags).filter(([name]) => name !== "json"));
}

/** Machine and settings above the figures. */
function renderSettings(machine: MeasuredMachine, settings: Record<string, unknown>): string {
  return [
    centre("Machine and Settings", "-"),
    row("Processor:", machine.processor),
    row("Cores:", machine.cores),
    ...Object.entries(settings).map(([name, value]) => row(`${name}:`, String(value))),
  ].join("\n");
}

/**
 * Runs a native benchmark and prints the machine, the flags and what it measured: `figures` of its lines
 * as JSON, or the parts of `render` as text. Exit code 130 when a signal ended it.
 */
export async function reportNativeBench<T>(
  program: NativeBench,
  args: readonly string[],
  flags: { json: boolean },
  report: { figures(lines: readonly T[]): object; render(lines: readonly T[]): string[] },
): Promise<number> {
  const stop = watchStopSignals();
  try {
    const lines = await runNativeBench<T>(program, args, stop.signal);
    const machine = measuredMachine();
    const settings = settingsOf(flags);
    const text = flags.json
      ? JSON.stringify({ machine, settings, ...report.figures(lines) }, null, 2)
      : [renderSettings(machine, settings), ...report.render(lines)].join("\n");
    process.stdout.write(`${text}\n`);
    return 0;
  } catch (error) {
    if (stop.signal.aborted) return 130;
    throw error;
  } finally {
    stop.forget();
  }
}

/** The share of a roof, as reports print it. */
export function percentOf(part: number): string {
  return `${(100 * part).toFixed(0)} %`;
}
