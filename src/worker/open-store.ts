import { UcmError } from "../errors/index.js";
import type {
  StoreBlockStatus,
  StoreConfig,
  StoreReport,
  StoreTier,
  WorkerConfig,
} from "../messages/index.js";
import {
  blockPresence,
  blockStatus,
  type KvStore,
  type NativeAddon,
  type StoreSpec,
} from "../native/index.js";
import { encodeKeys } from "./block-keys.js";
import type { LoadedModel } from "./load-model.js";
import { openPlugin } from "./plugin-store.js";
import { storeNamespace } from "./store-namespace.js";
import { reportOf } from "./store-report.js";
import type { BlockStore } from "./store-runner.js";

/** What is under way when the worker is told to end has so long. */
const CLOSE_MS = 4_000;

/** A worker's store, and the native one behind it. */
export interface OpenedStore extends BlockStore {
  /** Left out by a plug-in. */
  readonly native?: KvStore;
  /** What it counts; null when it does not tell. Not after close. */
  report(): StoreReport | null;
}

/**
 * Opens the store of a worker for the blocks of its arena.
 * @throws UcmError UCM_ERR_CONFIG when a folder, a size or a plug-in cannot be used.
 */
export async function openStore(
  store: StoreConfig,
  worker: WorkerConfig,
  { config, arena }: LoadedModel,
  native: NativeAddon,
): Promise<OpenedStore> {
  const { digest, about } = storeNamespace(worker, config, native.isa());
  const { numLayers } = config;
  if (store.module !== undefined) {
    const { rank, worldSize } = worker;
    const namespace = Buffer.from(digest).toString("hex");
    const context = { namespace, about, rank, worldSize };
    const { module, timeoutMs } = store;
    return openPlugin({ module, context, arena, numLayers, timeoutMs });
  }
  const opened = createStore(native, {
    namespace: digest,
    about,
    bytesPerBlock: arena.bytesPerBlock,
    numLayers,
    blockSize: worker.blockSize,
    ...(store.kind === "files" ? {} : { memory: { capacityBytes: store.memoryBytes } }),
    ...(store.kind === "dram" ? {} : { files: filesSpec(store) }),
  });
  return {
    numLayers,
    native: opened,
    async lookup(keys) {
      const found = await opened.lookup(encodeKeys(keys));
      return Array.from(found, tierOf);
    },
    async load(keys, blockIds, progress) {
      const statuses = await opened.load(encodeKeys(keys), arena, blockIds, progress);
      return Array.from(statuses, statusOf);
    },
    waitForLayers: (progress, layers, timeoutMs) =>
      opened.waitProgress(progress, layers, Math.ceil(timeoutMs)),
    async dump(keys, blockIds) {
      const statuses = await opened.dump(encodeKeys(keys), arena, blockIds);
      return Array.from(statuses, (status) => status === blockStatus.ok);
    },
    async pin(keys) {
      const statuses = await opened.pin(encodeKeys(keys));
      return Array.from(statuses, (status) => status === blockStatus.ok);
    },
    unpin: (keys) => opened.unpin(encodeKeys(keys)),
    async forget(keys) {
      await opened.forget(encodeKeys(keys));
    },
    report: () => reportOf(opened, arena.bytesPerBlock),
    close: () => opened.close(CLOSE_MS),
  };
}

function createStore(native: NativeAddon, spec: StoreSpec) {
  try {
    return native.createStore(spec);
  } catch (error) {
    const { message } = error as Error;
    throw new UcmError("UCM_ERR_CONFIG", `The KV cache store cannot be opened: ${message}`, {
      cause: error,
    });
  }
}

function filesSpec(store: StoreConfig): NonNullable<StoreSpec["files"]> {
  return {
    backends: [...store.backends],
    ...(store.threads > 0 ? { threads: store.threads } : {}),
    ioBytes: store.ioBytes,
    direct: store.directIo,
    capacityBytes: store.capacityBytes,
    recycle: store.recycle,
    recycleRatio: store.recycleRatio,
    readOnly: !store.canDump,
    transferTimeoutMs: store.timeoutMs,
  };
}

function tierOf(presence: number): StoreTier | null {
  if (presence === blockPresence.memory) return "memory";
  return presence === blockPresence.file ? "file" : null;
}

function statusOf(status: number): StoreBlockStatus {
  if (status === blockStatus.ok) return "ok";
  if (status === blockStatus.missing) return "missing";
  return status === blockStatus.corrupt ? "corrupt" : "failed";
}
