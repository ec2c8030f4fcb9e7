import { isDeepStrictEqual } from "node:util";
import { UcmError } from "../errors/index.js";
import { argumentError, type ParsedArguments, parseArguments } from "./arguments.js";
import {
  type FlagLayer,
  findProjectConfig,
  readConfigFile,
  readEnvironment,
} from "./flag-sources.js";
import { parseFlagValue, ValueProblem } from "./flag-value.js";
import {
  type CommandName,
  camelCase,
  commandInfos,
  type FlagSpec,
  type FlagsOf,
  type FlagTable,
  type FlagValue,
  flagsFor,
  flagTable,
  readsConfigFiles,
} from "./flags/index.js";
import type { Invocation } from "./invocation.js";

/** What a command line comes to, after every source of flags is merged. */
export type CommandLine<C extends CommandName> =
  | { kind: "help"; topic: string }
  | ({ kind: "run" } & Invocation<C>);

/**
 * Reads a command's flags: command line > environment > --config > project configuration > default.
 * Errors are UCM_ERR_USAGE (exit code 2, with a usage line) or UCM_ERR_CONFIG.
 */
export async function readCommandLine<C extends CommandName>(
  command: C,
  argv: readonly string[],
  context: { env: NodeJS.ProcessEnv; cwd: string },
): Promise<CommandLine<C>> {
  const table = flagsFor(command);
  const parsed = parseArguments(table, argv, commandInfos[command].positional !== null);
  if (parsed.help !== null) return { kind: "help", topic: parsed.help };
  const warnings = [...parsed.warnings];
  if (parsed.positional !== null) {
    parsed.values.set("model", parsed.positional);
  } else if (command === "serve" && parsed.values.has("model")) {
    warnings.push(
      "With `ucm serve`, you should provide the model as a positional argument or in a config file instead of via the `--model` option.",
    );
  }
  const layers = await findLayers(command, parsed.values, context);
  // A flag of another command keeps its default: code that commands share may ask for it.
  const all = readsConfigFiles(command) ? { ...flagTable, ...table } : table;
  return { kind: "run", ...mergeLayers<C>(all, table, layers, warnings) };
}

const COMMAND_LINE = "command line";

/** Every place that sets flags, the strongest first. */
async function findLayers(
  command: CommandName,
  values: ParsedArguments["values"],
  { env, cwd }: { env: NodeJS.ProcessEnv; cwd: string },
): Promise<FlagLayer[]> {
  const given: FlagLayer = { values, sourceOf: () => COMMAND_LINE };
  const environment = readEnvironment(flagsFor(command), env);
  const layers = [given, environment];
  if (!readsConfigFiles(command)) return layers;
  const configPath = given.values.get("config") ?? environment.values.get("config");
  if (typeof configPath === "string") layers.push(readConfigFile(configPath));
  const project = await findProjectConfig(cwd);
  if (project !== null) layers.push(project);
  return layers;
}

/** Flags whose values no log may show. */
export const secretFlags = new Set(["api-key", "hf-token"]);

function mergeLayers<C extends CommandName>(
  all: FlagTable,
  table: FlagTable,
  layers: readonly FlagLayer[],
  warnings: string[],
): Invocation<C> {
  const values: Record<string, FlagValue> = {};
  const nonDefault: Record<string, FlagValue> = {};
  const sources = new Map<string, string>();
  for (const [name, spec] of Object.entries(all)) {
    // A shared configuration file may set flags of other commands.
    const layer = Object.hasOwn(table, name)
      ? layers.find((candidate) => candidate.values.has(name))
      : undefined;
    const value = layer === undefined ? spec.default : readFrom(layer, name, spec);
    values[camelCase(name)] = value;
    if (Object.hasOwn(table, name)) sources.set(name, layer?.sourceOf(name) ?? "default");
    if (isDeepStrictEqual(value, spec.default)) continue;
    nonDefault[name.replaceAll("-", "_")] = secretFlags.has(name) ? "***" : value;
    const warning = checkStatus(name, spec, value);
    if (warning !== null) warnings.push(warning);
  }
  // The table decides the types of the values.
  return { flags: values as unknown as FlagsOf<C>, nonDefault, sources, warnings };
}

function readFrom(layer: FlagLayer, name: string, spec: FlagSpec): FlagValue {
  try {
    return parseFlagValue(spec, layer.values.get(name));
  } catch (error) {
    if (!(error instanceof ValueProblem)) throw error;
    const source = layer.sourceOf(name);
    throw argumentError({ name, spec }, error.message, source === COMMAND_LINE ? "" : source);
  }
}

/** The warning that an idle flag deserves; refused flags throw. */
function checkStatus(name: string, spec: FlagSpec, value: FlagValue): string | null {
  if (spec.status.kind === "implemented" || value === null) return null;
  if (spec.harmless.some((harmless) => isDeepStrictEqual(harmless, value))) return null;
  const { kind, reason } = spec.status;
  if (kind === "accepted") return `--${name} has no effect: ${reason}.`;
  throw new UcmError("UCM_ERR_USAGE", `argument --${name}: not supported: ${reason}.`, {
    param: name,
  });
}
