import { readFileSync } from "node:fs";
import { extname, resolve } from "node:path";
import { defaultLoadersSync } from "cosmiconfig";
import { UcmError } from "../errors/index.js";
import type { KvTransferConfig } from "./kv-transfer-config.js";
import { nearestName } from "./nearest-name.js";

/** Keys of kv_connector_extra_config, of both generations. */
const extraKeys: readonly string[] = [
  "ucm_connector_name",
  "ucm_connector_config",
  "ucm_connectors",
  "ucm_sparse_method",
  "ucm_sparse_config",
  "UCM_CONFIG_FILE",
  "use_layerwise",
  "enable_event_sync",
  "metrics_config_path",
  "hit_ratio",
  "load_only_first_rank",
  "load_decision",
];

/** A store and its keys as they were given. */
export interface NamedStore {
  name: string;
  settings: Record<string, unknown>;
}

/** kv_connector_extra_config, checked; the keys of UCM_CONFIG_FILE go over those beside it. */
export function readExtra(transfer: KvTransferConfig): Record<string, unknown> {
  const merged = mergeFile(transfer.kv_connector_extra_config ?? {});
  refuseUnknown("kv_connector_extra_config", merged, extraKeys);
  return merged;
}

function mergeFile(extra: Record<string, unknown>): Record<string, unknown> {
  const file = extra.UCM_CONFIG_FILE;
  if (file === undefined) return extra;
  if (typeof file !== "string" || file === "") {
    throw invalid(`UCM_CONFIG_FILE must be the path of a YAML file, got ${JSON.stringify(file)}.`);
  }
  const path = resolve(file);
  let text: string;
  try {
    text = readFileSync(path, "utf8");
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    throw new UcmError("UCM_ERR_CONFIG", `UCM_CONFIG_FILE ${path} cannot be read (${code}).`, {
      cause,
    });
  }
  const loader = defaultLoadersSync[extname(path) === ".json" ? ".json" : ".yaml"];
  let content: unknown;
  try {
    content = loader(path, text);
  } catch (cause) {
    const { message } = cause as Error;
    throw new UcmError("UCM_ERR_CONFIG", `UCM_CONFIG_FILE ${path} is not valid: ${message}`, {
      cause,
    });
  }
  if (!isObject(content)) {
    throw new UcmError("UCM_ERR_CONFIG", `UCM_CONFIG_FILE ${path} holds no mapping of keys.`);
  }
  return { ...extra, ...content };
}

/** The one store, of the flat keys or of the list; null where sparse attention does with its own. */
export function namedStore(extra: Record<string, unknown>): NamedStore | null {
  const list = extra.ucm_connectors;
  if (list === undefined) {
    const isSparse = extra.ucm_sparse_method != null || extra.ucm_sparse_config != null;
    const isNamed = (extra.ucm_connector_name ?? extra.ucm_connector_config) !== undefined;
    return isSparse && !isNamed ? null : checkNamed(extra);
  }
  if (!Array.isArray(list) || list.length !== 1 || !isObject(list[0])) {
    throw invalid("ucm_connectors must be a list of exactly one connector.");
  }
  const known = ["ucm_connector_name", "ucm_connector_module_path", "ucm_connector_config"];
  refuseUnknown("ucm_connectors[0]", list[0], known);
  return checkNamed(list[0]);
}

function checkNamed(fields: Record<string, unknown>): NamedStore {
  const { ucm_connector_name: name, ucm_connector_config: settings = {} } = fields;
  if (typeof name !== "string" || name === "") {
    throw invalid(
      "no storage connector: give ucm_connector_name, UcmDram, UcmNfsStore or UcmPipelineStore.",
    );
  }
  if (!isObject(settings)) throw invalid("ucm_connector_config must be an object.");
  return { name, settings };
}

/** Refuses a key that is not known, with the nearest one that is. */
export function refuseUnknown(
  where: string,
  given: Record<string, unknown>,
  known: readonly string[],
): void {
  const unknown = Object.keys(given).find((name) => !known.includes(name));
  if (unknown === undefined) return;
  throw invalid(`${where} has an unknown key '${unknown}'${didYouMean(unknown, known)}.`);
}

export function didYouMean(word: string, candidates: readonly string[]): string {
  const near = nearestName(word, candidates);
  return near === null ? "" : `; did you mean '${near}'?`;
}

export function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

export function invalid(message: string): UcmError {
  return new UcmError("UCM_ERR_USAGE", `argument --kv-transfer-config: ${message}`, {
    param: "kv-transfer-config",
  });
}
