import { isDeepStrictEqual } from "node:util";
import { UcmError } from "../errors/index.js";
import { argumentError, parseArguments } from "./arguments.js";
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
  type Flags,
  type FlagValue,
  flagsFor,
  flagTable,
} from "./flags/index.js";

/** What a command line comes to, after every source of flags is merged. */
export type CommandLine =
  | { kind: "help"; topic: string }
  | {
      kind: "run";
      flags: Flags;
      /** Flags that were set somewhere to other than their default, for the start-up log. */
      nonDefault: Record<string, FlagValue>;
      warnings: string[];
    };

/**
 * Reads a command's flags: command line > environment > --config > project configuration > default.
 * Errors are UCM_ERR_USAGE (exit code 2, with a usage line) or UCM_ERR_CONFIG.
 */
export async function readCommandLine(
  command: CommandName,
  argv: readonly string[],
  context: { env: NodeJS.ProcessEnv; cwd: string },
): Promise<CommandLine> {
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
  const given: FlagLayer = { values: parsed.values, sourceOf: () => "" };
  const environment = readEnvironment(table, context.env);
  const layers = [given, environment];
  const configPath = given.values.get("config") ?? environment.values.get("config");
  if (typeof configPath === "string") layers.push(readConfigFile(configPath));
  const project = await findProjectConfig(context.cwd);
  if (project !== null) layers.push(project);
  return { kind: "run", ...mergeLayers(table, layers, warnings) };
}

/** Flags whose values no log may show. */
const secretFlags = new Set(["api-key", "hf-token"]);

function mergeLayers(
  table: ReturnType<typeof flagsFor>,
  layers: readonly FlagLayer[],
  warnings: string[],
) {
  const values: Record<string, FlagValue> = {};
  const nonDefault: Record<string, FlagValue> = {};
  for (const [name, spec] of Object.entries(flagTable)) {
    // A flag of the other command keeps its default: a shared configuration file may set it.
    const layer = Object.hasOwn(table, name)
      ? layers.find((candidate) => candidate.values.has(name))
      : undefined;
    const value = layer === undefined ? spec.default : readFrom(layer, name, spec);
    values[camelCase(name)] = value;
    if (isDeepStrictEqual(value, spec.default)) continue;
    nonDefault[name.replaceAll("-", "_")] = secretFlags.has(name) ? "***" : value;
    const warning = checkStatus(name, spec, value);
    if (warning !== null) warnings.push(warning);
  }
  return { flags: values as unknown as Flags, nonDefault, warnings };
}

function readFrom(layer: FlagLayer, name: string, spec: FlagSpec): FlagValue {
  try {
    return parseFlagValue(spec, layer.values.get(name));
  } catch (error) {
    if (!(error instanceof ValueProblem)) throw error;
    throw argumentError({ name, spec }, error.message, layer.sourceOf(name));
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
