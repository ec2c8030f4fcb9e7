import type { KvArena } from "./types.js";

/** What became of one block; the numbers in the arrays that a KvStore returns. */
export const blockStatus = {
  /** It is not in the store. */
  missing: 0,
  ok: 1,
  /** It was there, but damaged; it is gone now. */
  corrupt: 2,
  /** The device did not answer in time. */
  timeout: 3,
  /** The device reported an error. */
  failed: 4,
  /** There is no room, or all of it is pinned. */
  refused: 5,
  /** The device is not used since it failed repeatedly, or the store is closed. */
  unavailable: 6,
} as const;

/** Where a lookup found a block. */
export const blockPresence = { missing: 0, memory: 1, file: 2 } as const;

export interface MemorySpec {
  /** UCM's max_cache_size. Must hold one block. */
  capacityBytes: number;
  /** That copy blocks out; default: one per core, at most 4. */
  threads?: number;
}

export interface FilesSpec {
  /** UCM's storage_backends: existing folders. A block's key decides which one it is in. */
  backends: string[];
  /** UCM's transferStreamNumber, for all folders together; default: 4 per core, 4 to 32. */
  threads?: number;
  /** UCM's transferIoSize, bytes of one read or write; default 262144. */
  ioBytes?: number;
  /** UCM's transferIoDirect: past the page cache, where the file system can; default false. */
  direct?: boolean;
  /** `data`: on the device before a block is visible. Default `none`: damage is found by checksum. */
  syncPolicy?: "none" | "data";
  /** UCM's storageCapacity, for all folders together; default 0, no limit. */
  capacityBytes?: number;
  /** UCM's recycleEnable; default true. Without it a full store refuses dumps. */
  recycle?: boolean;
  /** UCM's recycleThresholdRatio, of the capacity; default 0.7. */
  recycleRatio?: number;
  /** Nothing is written, moved or removed; default false. */
  readOnly?: boolean;
  /** A device that does not answer one call for so long is stuck; default 2000. */
  operationTimeoutMs?: number;
  /** A load that takes longer in all fails; default 30000. */
  transferTimeoutMs?: number;
  /** Failures in a row after which a folder is left alone; default 3. */
  breakerFailures?: number;
  /** Before the first probe of a folder that is left alone; default 1000, doubling up to 30000. */
  breakerPauseMs?: number;
  /** Memory of blocks that wait to be written, without `memory`; default 256 MiB. */
  writeBufferBytes?: number;
}

/** A store in memory, in files, or in memory in front of files: at least one of the two. */
export interface StoreSpec {
  /** uint8 [32]: digest of everything that makes the bytes of equal keys differ. */
  namespace: Uint8Array;
  /** One line for people on what the namespace is; kept beside its files. */
  about?: string;
  /** The arena's, and a multiple of numLayers. */
  bytesPerBlock: number;
  numLayers: number;
  /** Tokens. */
  blockSize: number;
  memory?: MemorySpec;
  files?: FilesSpec;
  /** Blocks that may wait in memory to be written to files; default 1024. */
  queueBlocks?: number;
}

/** Counts since the store was opened; sizes as of now. Times are thread time. */
export interface TierStats {
  lookups: number;
  lookupHits: number;
  loadedBlocks: number;
  loadedBytes: number;
  /** Single layers of blocks. */
  loadedPieces: number;
  loadMisses: number;
  loadFailures: number;
  loadTimeouts: number;
  loadMicros: number;
  dumpedBlocks: number;
  dumpedBytes: number;
  /** Were there already. */
  dumpDuplicates: number;
  /** No room. */
  dumpsRefused: number;
  dumpFailures: number;
  /** Given up in the write queue, because it was full or the files unavailable. */
  dumpsDropped: number;
  dumpMicros: number;
  corruptBlocks: number;
  quarantinedBlocks: number;
  evictedBlocks: number;
  evictedBytes: number;
  /** Files of dead writers, and quarantined ones that nobody looked at. */
  reclaimedFiles: number;
  usedBytes: number;
  capacityBytes: number;
  pinnedBlocks: number;
  buffersInUse: number;
}

export interface MemoryStats extends TierStats {
  blocks: number;
}

export interface FilesStats extends TierStats {
  /** Folders that are left alone now. */
  backendsOut: number;
  breakerOpenings: number;
  /** Threads that wait for a device without an answer now, and all that ever did. */
  stuckThreads: number;
  threadsGivenUp: number;
  /** Only with memory in front. */
  queuedWrites?: number;
}

export interface StoreStats {
  memory?: MemoryStats;
  files?: FilesStats;
}

/**
 * A cache of KV blocks by key. What it gives back is what was put in, byte for byte, or nothing.
 * Keys are uint8 [n * 32]; results are uint8 [n] of blockStatus or blockPresence. No call waits for a
 * device, and no promise rejects: what fails is the status of the block concerned. Wrong arguments,
 * and any call after close, throw UCM_ERR_NATIVE.
 */
export interface KvStore {
  /** blockPresence of each key. A block may still be gone, or found damaged, when it is loaded. */
  lookup(keys: Uint8Array): Promise<Uint8Array>;
  /** The same of memory alone, at once. */
  lookupMemory(keys: Uint8Array): Uint8Array;
  /**
   * Loads blocks into different blocks of the arena, first layers first. These must stay reserved
   * until the promise is settled; a block has its content only if its status is ok.
   *
   * @param progress int32 [1]: layers that are there in all blocks that did not fail so far, written
   *   from other threads; needs Atomics.load, or waitProgress.
   */
  load(
    keys: Uint8Array,
    arena: KvArena,
    blockIds: Int32Array,
    progress?: Int32Array,
  ): Promise<Uint8Array>;
  /** Blocks until `progress` of a load is `layers` or more. False when that takes too long. */
  waitProgress(progress: Int32Array, layers: number, timeoutMs: number): boolean;
  /**
   * Copies blocks out of the arena before it returns, so that they may be reused at once. Settled
   * when they are stored: with memory in front of files, when they are in memory.
   */
  dump(keys: Uint8Array, arena: KvArena, blockIds: Int32Array): Promise<Uint8Array>;
  /** Keeps blocks from removal by this server and others; each pin that is ok needs one unpin. */
  pin(keys: Uint8Array): Promise<Uint8Array>;
  unpin(keys: Uint8Array): void;
  /** Removes blocks. */
  forget(keys: Uint8Array): Promise<Uint8Array>;
  stats(): StoreStats;
  /**
   * float64 [n * 3]: kind (0 load, 1 dump), blocks and microseconds of the loads and dumps that ended
   * since the last call and moved a block; the first 10,000. From the call to the end on the store's
   * threads, whatever JavaScript was busy with then.
   */
  takeTransfers(): Float64Array;
  /** Ends what is under way within `timeoutMs`, default 10000, and fails the rest. Once is enough. */
  close(timeoutMs?: number): Promise<void>;
}

/** What a block file of a store's folder is; the rest is there only when its status is ok. */
export interface BlockFileReport {
  /** blockStatus ok, missing, corrupt or failed. */
  status: number;
  fileBytes: number;
  /** Of the file that was read. */
  inode: bigint;
  /** As 64 hexadecimal digits. The caller checks that the file's name and folder are these. */
  key?: string;
  namespace?: string;
  bytesPerBlock?: number;
  numLayers?: number;
  blockSize?: number;
}
