/** A file of a store's folder that is no block in its place. */
export interface LooseFile {
  path: string;
  bytes: number;
  /** Unix time, as are all times here. */
  writtenAtMs: number;
  /** Named as a block that is being written. */
  isTemp: boolean;
  /** Its writer's process is known to have ended. */
  isOfDeadWriter: boolean;
}

/** A server that has the folder open, or had it when it was killed. */
export interface StoreServer {
  name: string;
  /** Its process has ended, or it gave no sign of life for two minutes. */
  isDead: boolean;
  /** 0 when it gave none. */
  heartbeatAtMs: number;
  /** Of the quota. */
  claimBytes: number;
  pins: number;
  /** Lines of `name value`: namespace, store, startedAtMs, and counts of its files tier. */
  stats: string;
}

/** One backend folder as it was found; entry i of each array is of block i. */
export interface StoreFolderScan {
  namespaces: { name: string; about: string }[];
  /** uint8 [n * 32]. */
  keys: Uint8Array;
  /** Index into namespaces. */
  namespaceIds: Uint32Array;
  /** On disk. */
  bytes: Float64Array;
  writtenAtMs: Float64Array;
  /** Nanoseconds: the later of its last read and its writing. */
  usedAtNs: BigInt64Array;
  /** 1 where a server keeps it from removal. */
  pinned: Uint8Array;
  /** Of everything in the folder. */
  usedBytes: number;
  /** Among the blocks, but none, or not in its place. */
  temps: LooseFile[];
  quarantined: LooseFile[];
  /** Links of pinned blocks; `bytes` only where the block itself is gone. */
  pins: LooseFile[];
  servers: StoreServer[];
  /** The first calls that the file system refused; without any, the scan is complete. */
  failures: { path: string; reason: string }[];
}

/** Tools for a store's folder. They wait for its device, so a process of their own runs them. */
export interface StoreTools {
  /** Walks a backend folder; `beat` is called as long as calls of the file system return. */
  scanStoreFolder(folder: string, beat: () => void): StoreFolderScan;
  /** Removes a block unless it was pinned or used since the scan: 0, or the errno, EBUSY for that. */
  removeUnusedBlock(path: string, usedAtNs: bigint): number;
  /**
   * Moves a damaged block to the quarantine of its folder, as a store does, unless another file has
   * taken its place. Where it is then; empty when it was not moved.
   */
  quarantineBlock(folder: string, path: string, inode: bigint): string;
  /** Removes what a dead server left: claim, pins, counts. */
  removeServerFolder(folder: string, server: string): void;
}
