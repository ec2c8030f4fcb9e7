import { createRequire } from "node:module";
import { isAbsolute, join, resolve } from "node:path";
import { pathToFileURL } from "node:url";
import type { StoreConfig, StoreKind, StoreModule } from "../messages/index.js";
import { type KvTransferConfig, parseKvTransferConfig } from "./kv-transfer-config.js";
import {
  didYouMean,
  invalid,
  type NamedStore,
  namedStore,
  readExtra,
  refuseUnknown,
} from "./store-extra.js";
import { openBackends, splitBackends } from "./store-folders.js";
import {
  commonKeys,
  fileKeys,
  ignoredKeys,
  memoryKeys,
  pipelineKeys,
  type StoreSettings,
} from "./store-keys.js";

const storeKinds: Readonly<Record<string, StoreKind>> = {
  UcmDram: "dram",
  UcmDramStore: "dram",
  UcmNfsStore: "files",
  UcmPcStore: "files",
  UcmPosixStore: "files",
  UcmPipelineStore: "pipeline",
};

/** Stores of UCM that need what is not here. */
const foreignStores: readonly string[] = ["UcmMooncakeStore", "UcmDs3fsStore"];

/** `store_pipeline`, in lower case. */
const pipelines: Readonly<Record<string, StoreKind>> = {
  "cache|posix": "pipeline",
  posix: "files",
};

const connectors: readonly string[] = ["UnifiedCacheConnectorV1", "UCMConnector"];

/** Where UCM's versions have them. */
const modulePaths: readonly string[] = [
  "unifiedcache.integration.vllm.uc_connector",
  "ucm.integration.vllm.uc_connector",
  "ucm.integration.vllm.ucm_connector",
  "ucm.integration.vllm.v2.ucm_connector",
];

const keysOf: Readonly<Record<StoreKind, typeof memoryKeys>> = {
  dram: [...commonKeys, ...memoryKeys],
  files: [...commonKeys, ...fileKeys],
  pipeline: [...commonKeys, ...pipelineKeys, ...memoryKeys, ...fileKeys],
};

export const storeDefaults: StoreSettings = {
  storageBackends: "",
  pipeline: "Cache|Posix",
  kvBlockBytes: 0,
  memoryBytes: 5_368_709_120,
  threads: 0,
  ioBytes: 262_144,
  directIo: false,
  capacityBytes: 0,
  recycle: true,
  recycleRatio: 0.7,
  timeoutMs: 30_000,
};

/** What a block of this model takes, for kv_block_size. */
export interface BlockFacts {
  bytesPerBlock: number;
  blockSize: number;
  numLayers: number;
}

/**
 * The store that --kv-transfer-config asks for, null without a connector, or for sparse attention
 * that names none. Both generations of UCM's
 * keys are taken. UCM_ERR_USAGE for what is unknown, with the nearest name; UCM_ERR_CONFIG for a
 * folder that cannot be used.
 */
export function resolveStore(transfer: KvTransferConfig, block: BlockFacts): StoreConfig | null {
  const { kv_connector: connector } = transfer;
  if (!connector) return null;
  const module = pluginOf(connector, transfer);
  if (module !== null) return pluginStore(module, transfer);
  if (!connectors.includes(connector)) {
    throw invalid(`kv_connector '${connector}' is not known${didYouMean(connector, connectors)}.`);
  }
  const extra = readExtra(transfer);
  const named = namedStore(extra);
  return named === null ? null : describeStore(named, extra, transfer, block);
}

function describeStore(
  { name, settings }: NamedStore,
  extra: Record<string, unknown>,
  transfer: KvTransferConfig,
  block: BlockFacts,
): StoreConfig {
  const kind = kindOf(name, settings);
  const values = readSettings(name, kind, settings);
  checkBlockBytes(values.kvBlockBytes, kind, block);
  const backends = kind === "dram" ? [] : openBackends(name, values.storageBackends);
  const usesMemory = kind !== "files";
  if (usesMemory && values.memoryBytes < block.bytesPerBlock) {
    throw invalid(
      `max_cache_size ${values.memoryBytes} holds no block: one takes ${block.bytesPerBlock} bytes. Give more.`,
    );
  }
  return {
    kind,
    name,
    ...roleOf(transfer),
    loadDecision: loadDecision(extra.load_decision),
    memoryBytes: usesMemory ? values.memoryBytes : 0,
    backends,
    threads: values.threads,
    ioBytes: values.ioBytes,
    directIo: values.directIo,
    capacityBytes: values.capacityBytes,
    recycle: values.recycle,
    recycleRatio: values.recycleRatio,
    timeoutMs: values.timeoutMs,
  };
}

/** The plug-in that kv_connector_module_path names; null for UCM's own paths. */
function pluginOf(connector: string, transfer: KvTransferConfig): StoreModule | null {
  const path = transfer.kv_connector_module_path;
  if (!path || modulePaths.includes(path)) return null;
  const settings = transfer.kv_connector_extra_config ?? {};
  return { url: resolveModule(path), exportName: connector, settings };
}

/** A path from here or a package that is installed here, as a URL. */
function resolveModule(path: string): string {
  try {
    const isPath = isAbsolute(path) || path.startsWith(".");
    const from = createRequire(join(process.cwd(), "here.js"));
    return pathToFileURL(from.resolve(isPath ? resolve(path) : path)).href;
  } catch {
    const near = didYouMean(path, modulePaths);
    throw invalid(
      `kv_connector_module_path '${path}' is none of UCM's${near}, and no JavaScript module is there. Give the path of one from here, as ./my-store.mjs.`,
    );
  }
}

function pluginStore(module: StoreModule, transfer: KvTransferConfig): StoreConfig {
  return {
    ...roleOf(transfer),
    kind: "module",
    module,
    name: module.exportName,
    loadDecision: loadDecision(module.settings.load_decision),
    ...{
      memoryBytes: 0,
      backends: [],
      threads: 0,
      ioBytes: storeDefaults.ioBytes,
      directIo: false,
    },
    ...{ capacityBytes: 0, recycle: false, recycleRatio: 1, timeoutMs: storeDefaults.timeoutMs },
  };
}

function roleOf({ kv_role: role, kv_load_failure_policy: policy }: KvTransferConfig) {
  return {
    canLoad: role !== "kv_producer",
    canDump: role !== "kv_consumer",
    loadFailurePolicy: policy ?? ("recompute" as const),
  };
}

/** The folders of the store that a configuration names, as they are written; none without files. */
export function backendFolders(raw: Record<string, unknown>): string[] {
  const transfer = parseKvTransferConfig(raw);
  if (!transfer.kv_connector || pluginOf(transfer.kv_connector, transfer) !== null) return [];
  const named = namedStore(readExtra(transfer));
  if (named === null) return [];
  const { name, settings } = named;
  const kind = kindOf(name, settings);
  if (kind === "dram") return [];
  return splitBackends(name, readSettings(name, kind, settings).storageBackends);
}

function kindOf(name: string, settings: Record<string, unknown>): StoreKind {
  if (foreignStores.includes(name)) {
    throw invalid(
      `${name} is a store of its own network protocol, which is not supported. Use UcmDram, UcmNfsStore or UcmPipelineStore.`,
    );
  }
  const kind = storeKinds[name];
  if (kind === undefined) {
    const near = didYouMean(name, Object.keys(storeKinds));
    throw invalid(
      `ucm_connector_name '${name}' is not known${near}; the stores are ${Object.keys(storeKinds).join(", ")}.`,
    );
  }
  if (kind !== "pipeline") return kind;
  const pipeline = String(settings.store_pipeline ?? storeDefaults.pipeline);
  const built = pipelines[pipeline.toLowerCase()];
  if (built === undefined) {
    throw invalid(`store_pipeline '${pipeline}' is not supported; use 'Cache|Posix' or 'Posix'.`);
  }
  return built;
}

function readSettings(
  name: string,
  kind: StoreKind,
  given: Record<string, unknown>,
): StoreSettings {
  const keys = name === "UcmPipelineStore" ? keysOf.pipeline : keysOf[kind];
  const byName = new Map(keys.flatMap((key) => key.names.map((other) => [other, key] as const)));
  refuseUnknown(`ucm_connector_config of ${name}`, given, [...byName.keys(), ...ignoredKeys]);
  const settings: StoreSettings = { ...storeDefaults };
  const source = new Map<string, string>();
  for (const [given_name, value] of Object.entries(given)) {
    const key = byName.get(given_name);
    if (key === undefined) continue;
    const before = source.get(key.setting);
    if (before !== undefined) {
      throw invalid(`${before} and ${given_name} set the same; give one of them.`);
    }
    source.set(key.setting, given_name);
    const parsed = key.schema.safeParse(value);
    if (!parsed.success) {
      const problem = parsed.error.issues[0]!.message;
      throw invalid(`${given_name}: ${problem}, got ${JSON.stringify(value)}.`);
    }
    Object.assign(settings, { [key.setting]: parsed.data });
  }
  return settings;
}

/**
 * In UCM, kv_block_size is the keys or values of one layer for the store in memory, and all of a block
 * for one in files. More than that is room that nothing is lost by.
 */
function checkBlockBytes(given: number, kind: StoreKind, block: BlockFacts): void {
  const { bytesPerBlock, numLayers, blockSize } = block;
  const needed = kind === "dram" ? bytesPerBlock / numLayers / 2 : bytesPerBlock;
  if (given === 0 || given >= needed) return;
  const what = kind === "dram" ? "the keys or the values of one layer" : `all ${numLayers} layers`;
  throw invalid(
    `kv_block_size ${given} cannot hold a block: ${what} of ${blockSize} tokens (--block-size) take ${needed} bytes with this model and KV cache dtype. Give "kv_block_size": ${needed}, or leave it out.`,
  );
}

function loadDecision(value: unknown): StoreConfig["loadDecision"] {
  if (value === undefined || value === "auto" || value === "always") return value ?? "auto";
  throw invalid(`load_decision must be 'auto' or 'always', got ${JSON.stringify(value)}.`);
}

/** The store of sparse attention when none is configured: memory, as UcmDram. */
export function ownStore(memoryBytes: number): StoreConfig {
  const { threads, ioBytes, directIo, capacityBytes, recycle, recycleRatio, timeoutMs } =
    storeDefaults;
  return {
    kind: "dram",
    name: "UcmDram",
    canLoad: true,
    canDump: true,
    loadFailurePolicy: "recompute",
    loadDecision: "auto",
    memoryBytes: Math.min(memoryBytes, storeDefaults.memoryBytes),
    backends: [],
    ...{ threads, ioBytes, directIo, capacityBytes, recycle, recycleRatio, timeoutMs },
  };
}
