import { log } from "../log/index.js";
import type { KvDtype, SparseConfig, StoreConfig } from "../messages/index.js";
import type { ModelConfig } from "../model/model-config.js";
import type { EngineOptions } from "./engine-options.js";
import { bytesPerBlock, toGib } from "./kv-size.js";
import { parseKvTransferConfig } from "./kv-transfer-config.js";
import type { Machine } from "./machine.js";
import { resolveSparse } from "./sparse-config.js";
import { ownStore, resolveStore } from "./store-config.js";
import { invalid, readExtra } from "./store-extra.js";

/** Of what may be used, for a store that nobody configured. */
const OWN_STORE_SHARE = 0.25;

/** The KV cache store and the sparse attention of --kv-transfer-config, each null without. */
export function resolveKvTransfer(
  { kvTransferConfig, blockSize, gpuMemoryUtilization }: EngineOptions,
  model: ModelConfig,
  kvDtype: KvDtype,
  machine: Machine,
): { store: StoreConfig | null; sparse: SparseConfig | null } {
  if (kvTransferConfig === null) return { store: null, sparse: null };
  const transfer = parseKvTransferConfig(kvTransferConfig);
  const facts = { blockSize, numLayers: model.numLayers };
  const named = resolveStore(transfer, {
    ...facts,
    // UCM's kv_block_size knows of keys and values alone.
    bytesPerBlock: bytesPerBlock(model, blockSize, kvDtype),
  });
  const sparse = named?.kind === "module" ? null : resolveSparse(readExtra(transfer), facts);
  if (named?.kind === "module") checkPlugin(named, transfer.kv_connector_extra_config ?? {});
  if (sparse !== null) checkRole(sparse, transfer.kv_role);
  const ownBytes = Math.floor(machine.availableBytes * gpuMemoryUtilization * OWN_STORE_SHARE);
  const store = named ?? (sparse === null ? null : ownStore(ownBytes));
  if (store !== null) logStore(store);
  if (sparse !== null) logSparse(sparse);
  return { store, sparse };
}

/** Sparse attention reads single layers of blocks, which plug-ins do not give. */
function checkPlugin({ name }: StoreConfig, settings: Record<string, unknown>): void {
  if (settings.ucm_sparse_method == null && settings.ucm_sparse_config == null) return;
  throw invalid(
    `sparse attention does not work with the plug-in ${name}: give one of UCM's stores, such as UcmDram, or none.`,
  );
}

/** What leaves the arena must have gone to the store, and come back. */
function checkRole({ method }: SparseConfig, role: string | null | undefined): void {
  if (role == null || role === "kv_both") return;
  throw invalid(
    `sparse attention (${method}) needs kv_role 'kv_both', got '${role}': it stores blocks and loads them again.`,
  );
}

function logStore(store: StoreConfig): void {
  const memory = store.memoryBytes > 0 ? [`${toGib(store.memoryBytes)} GiB of memory`] : [];
  const modules = store.module === undefined ? [] : [store.module.url];
  log.info(
    `KV cache store ${store.name}: ${[...memory, ...store.backends, ...modules].join(", ")}`,
  );
}

function logSparse(config: SparseConfig): void {
  const { method, score, representationTokens, stride, denseLayers } = config;
  const { init, local, minBlocks, ratio } = config.window;
  const dense = denseLayers > 0 ? `; the first ${denseLayers} layers attend to all of them` : "";
  log.info(
    `Sparse attention ${method}: prompts of ${minBlocks} blocks or more keep their first ${init} and last ${local} blocks and ${ratio} of the others, chosen every ${stride} steps by ${score} of ${representationTokens} tokens${dense}`,
  );
}
