/** How a store is built: memory, a folder of files, or memory in front of files. */
export type StoreKind = "dram" | "files" | "pipeline";

/** A JavaScript module with a class that is the store. */
export interface StoreModule {
  /** As import() takes it. */
  url: string;
  exportName: string;
  /** kv_connector_extra_config. */
  settings: Readonly<Record<string, unknown>>;
}

/** The KV cache store of a worker, with every default filled in. */
export interface StoreConfig {
  kind: StoreKind | "module";
  /** The plug-in that is the store; left out without one. */
  module?: StoreModule;
  /** Its name in --kv-transfer-config, for people. */
  name: string;
  /** Blocks found in the store are loaded (kv_both, kv_consumer). */
  canLoad: boolean;
  /** Blocks that were computed are stored (kv_both, kv_producer). */
  canDump: boolean;
  /** A load that fails: compute the tokens again, or fail the request. */
  loadFailurePolicy: "recompute" | "fail";
  /** `always` loads what is found; `auto` only where that is expected to be faster than computing. */
  loadDecision: "auto" | "always";
  /** Host memory for blocks; 0 where the store has none of its own. */
  memoryBytes: number;
  /** Absolute folders; empty for a store in memory. */
  backends: readonly string[];
  /** I/O threads; 0 chooses by the number of cores. */
  threads: number;
  /** Bytes per read or write call. */
  ioBytes: number;
  directIo: boolean;
  /** Of all files together; 0 is no limit. */
  capacityBytes: number;
  recycle: boolean;
  /** Share of the capacity from which on the least recently used files are removed. */
  recycleRatio: number;
  /** A transfer that takes longer has failed. */
  timeoutMs: number;
}

/** Blocks to look for, by their hashes. */
export interface StoreLookup {
  /** Unique among the look-ups and loads of an engine's life. */
  taskId: number;
  keys: readonly string[];
}

/** Blocks to copy from the store into the arena: keys[i] into block blockIds[i]. */
export interface StoreLoad {
  taskId: number;
  keys: readonly string[];
  blockIds: Int32Array;
}

/** Blocks to copy from the arena into the store. */
export interface StoreDump {
  /** Whose blocks they are; when its step fails they are not stored. */
  seqId: number;
  keys: readonly string[];
  blockIds: Int32Array;
  /**
   * Filled by an earlier step, so that they are copied before anything else is done: they may have
   * another use already. The others are filled by this step, and copied once it has returned.
   */
  isFilled: boolean;
}

/** Blocks to keep in the store until the pin of this id is let go. */
export interface StorePin {
  pinId: number;
  keys: readonly string[];
}

/** What a step asks of the store. */
export interface StoreWork {
  lookups: StoreLookup[];
  loads: StoreLoad[];
  dumps: StoreDump[];
  /** Keys of blocks to remove: what they hold may be what made a sequence fail. */
  forgets: string[];
  pins: StorePin[];
  /** Ids of pins to let go. */
  unpins: number[];
}

/** Where a block was found. */
export type StoreTier = "memory" | "file";

/** One entry per key of the look-up: the tier that has it, or null. */
export interface StoreFound {
  taskId: number;
  tiers: (StoreTier | null)[];
}

/** What became of a block: there, not there, damaged, or kept back by its device. */
export type StoreBlockStatus = "ok" | "missing" | "corrupt" | "failed";

/** A load that is over: the store writes to its blocks no more. */
export interface StoreLoaded {
  taskId: number;
  statuses: StoreBlockStatus[];
  /** Wall time of the load; null when it was not observed by itself. */
  durationMs: number | null;
}

/** A load from the store or a dump to it that has ended. */
export interface StoreTransfer {
  kind: "load" | "save";
  /** That it moved, at least 1. */
  blocks: number;
  /** From its begin to its end on the store's threads. */
  durationMs: number;
}

/** What a worker's store counts. */
export interface StoreReport {
  /** By tier (`memory`, `files`) and the native store's names: counts since it was opened, sizes now. */
  tiers: Record<string, Record<string, number>>;
  bytesPerBlock: number;
  /** Those that ended since the last report. */
  transfers: StoreTransfer[];
}

/** What the store finished since the last step. */
export interface StoreNews {
  found: StoreFound[];
  loaded: StoreLoaded[];
  /** Keys of dumps that the store could not take. */
  notStored: string[];
}
