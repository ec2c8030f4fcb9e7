import { readFileSync } from "node:fs";
import { extname } from "node:path";
import { cosmiconfig, defaultLoadersSync, getDefaultSearchPlaces } from "cosmiconfig";
import { nearestName } from "../config/nearest-name.js";
import { UcmError } from "../errors/index.js";
import { isPlainObject } from "./flag-value.js";
import { configFileTable, type FlagTable } from "./flags/index.js";

/** Raw values of flags from one place. */
export interface FlagLayer {
  /** "UCM_PORT", "ucm.yaml", "command line". */
  sourceOf(name: string): string;
  values: ReadonlyMap<string, unknown>;
}

/** UCM_<NAME> for every flag of the table, and vLLM's variables where they exist. */
export function readEnvironment(table: FlagTable, env: NodeJS.ProcessEnv): FlagLayer {
  const values = new Map<string, unknown>();
  const sources = new Map<string, string>();
  for (const [name, spec] of Object.entries(table)) {
    const twins = {
      [`UCM_${name.toUpperCase().replaceAll("-", "_")}`]: keepText,
      ...spec.envTwins,
    };
    for (const [variable, convert] of Object.entries(twins)) {
      const text = env[variable];
      const value = text === undefined ? null : convert(text);
      if (value === null) continue;
      values.set(name, value);
      sources.set(name, variable);
      break;
    }
  }
  return { values, sourceOf: (name) => sources.get(name) ?? "" };
}

function keepText(text: string): string {
  return text;
}

/** The YAML file of --config. Errors are UCM_ERR_CONFIG in vLLM's words. */
export function readConfigFile(path: string): FlagLayer {
  const extension = extname(path).slice(1);
  if (extension !== "yaml" && extension !== "yml") {
    throw new UcmError(
      "UCM_ERR_CONFIG",
      `Config file must be of a yaml/yml type. ${extension === "" ? path : extension} supplied`,
    );
  }
  let text: string;
  try {
    text = readFileSync(path, "utf8");
  } catch (cause) {
    throw new UcmError(
      "UCM_ERR_CONFIG",
      `Unable to read the config file at ${path}. Check path correctness`,
      { cause },
    );
  }
  try {
    return layerOf(path, defaultLoadersSync[".yaml"](path, text));
  } catch (error) {
    if (error instanceof UcmError) throw error;
    throw new UcmError(
      "UCM_ERR_CONFIG",
      `The config file ${path} is not valid YAML: ${firstLine(error)}`,
    );
  }
}

/** The configuration that cosmiconfig finds in a folder; null when there is none. */
export async function findProjectConfig(folder: string): Promise<FlagLayer | null> {
  const searchPlaces = [
    ...getDefaultSearchPlaces("ucm").filter((place) => !place.endsWith(".ts")),
    "ucm.config.json",
    "ucm.config.yaml",
    "ucm.config.yml",
  ];
  try {
    const found = await cosmiconfig("ucm", { searchPlaces }).search(folder);
    return found === null || found.isEmpty === true ? null : layerOf(found.filepath, found.config);
  } catch (error) {
    if (error instanceof UcmError) throw error;
    throw new UcmError(
      "UCM_ERR_CONFIG",
      `The configuration found in ${folder} cannot be read: ${firstLine(error)}`,
    );
  }
}

function firstLine(error: unknown): string {
  return (error instanceof Error ? error.message : String(error)).split("\n")[0]!;
}

/** Keys are long flag names with `-` or `_`; `no-x: true` is `x: false`; unknown keys are errors. */
function layerOf(path: string, content: unknown): FlagLayer {
  if (content === null || content === undefined) return { values: new Map(), sourceOf: () => path };
  if (!isPlainObject(content)) {
    throw new UcmError("UCM_ERR_CONFIG", `${path} must hold a mapping of flag names to values.`);
  }
  const values = new Map<string, unknown>();
  for (const [written, value] of Object.entries(content)) {
    const key = written.replaceAll("_", "-");
    const name = key === "model-tag" ? "model" : key;
    const positive = name.startsWith("no-") ? name.slice(3) : name;
    if (Object.hasOwn(configFileTable, name) && name !== "config") {
      values.set(name, value);
    } else if (
      Object.hasOwn(configFileTable, positive) &&
      configFileTable[positive]?.type === "bool" &&
      typeof value === "boolean"
    ) {
      values.set(positive, !value);
    } else {
      const near = nearestName(name, Object.keys(configFileTable));
      const hint = near === null ? "" : ` Did you mean ${near}?`;
      throw new UcmError("UCM_ERR_CONFIG", `${path}: unknown key '${written}'.${hint}`);
    }
  }
  return { values, sourceOf: () => path };
}
