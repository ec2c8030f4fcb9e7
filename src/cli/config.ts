import { secretFlags } from "./command-flags.js";
import { configSchema } from "./config-schema.js";
import { camelCase, type FlagsOf, type FlagValue } from "./flags/index.js";
import type { Invocation } from "./invocation.js";

/** A flag as `ucm config` tells of it. */
interface ConfigEntry {
  value: FlagValue;
  /** "command line", the variable, the file, or "default". */
  source: string;
}

/**
 * `ucm config`: what `ucm serve` would run with, and which source each value came from. Mistakes in any
 * source are the same errors as there.
 */
export async function runConfig(invocation: Invocation<"config">): Promise<number> {
  const { flags, warnings } = invocation;
  if (flags.schema) {
    process.stdout.write(`${JSON.stringify(configSchema(), null, 2)}\n`);
    return 0;
  }
  const entries = describeFlags(invocation);
  process.stdout.write(
    flags.json ? `${JSON.stringify(entries, null, 2)}\n` : renderEntries(entries, flags.all),
  );
  for (const warning of warnings) process.stderr.write(`warning: ${warning}\n`);
  return 0;
}

/** Flags that shape the output rather than the configuration. */
const ownFlags = new Set(["all", "json", "schema"]);

function describeFlags({ flags, sources }: Invocation<"config">): Record<string, ConfigEntry> {
  const names = [...sources.keys()].filter((name) => !ownFlags.has(name)).sort();
  return Object.fromEntries(
    names.map((name) => {
      const value = flags[camelCase(name) as keyof FlagsOf<"config">];
      const isHidden = secretFlags.has(name) && value !== null;
      return [name, { value: isHidden ? "***" : value, source: sources.get(name)! }];
    }),
  );
}

function renderEntries(entries: Record<string, ConfigEntry>, all: boolean): string {
  const shown = Object.entries(entries).filter(([, { source }]) => all || source !== "default");
  const cells = shown.map(([name, { value, source }]) => [name, showValue(value), source] as const);
  const nameWidth = Math.max(0, ...cells.map(([name]) => name.length));
  const valueWidth = Math.min(48, Math.max(0, ...cells.map(([, value]) => value.length)));
  const lines = cells.map(
    ([name, value, source]) =>
      `${name.padEnd(nameWidth)}  ${value.padEnd(valueWidth)}  # ${source}`,
  );
  const numDefaults = Object.keys(entries).length - shown.length;
  if (numDefaults > 0) lines.push(`# ${numDefaults} more at their defaults: ucm config --all`);
  return `${lines.join("\n")}\n`;
}

function showValue(value: FlagValue): string {
  return typeof value === "string" ? value : JSON.stringify(value);
}
