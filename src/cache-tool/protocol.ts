import type { SerializedError } from "../errors/index.js";
import type { StoreFolderScan } from "../native/index.js";

/** A backend folder, what is in it, and the file system that it is on. */
export interface FolderScan {
  folder: string;
  scan: StoreFolderScan;
  /** Of the file system. */
  freeBytes: number;
  totalBytes: number;
}

/** Which blocks `rm` removes. */
export type RemoveTarget =
  | { kind: "all" }
  /** A namespace, or the start of its name. */
  | { kind: "namespace"; name: string }
  /** Every namespace of a model, by the name of its folder. */
  | { kind: "model"; name: string }
  /** One block, or the start of its key. */
  | { kind: "block"; key: string };

/** What `gc` keeps. */
export interface CollectLimits {
  /** Of all blocks of a folder; null for any. */
  maxBytes: number | null;
  /** Since a block was last used; null for any. */
  maxAgeMs: number | null;
}

export type CacheRequest =
  | { kind: "scan"; folders: readonly string[] }
  | { kind: "verify"; folders: readonly string[]; dryRun: boolean }
  | { kind: "gc"; folders: readonly string[]; limits: CollectLimits; dryRun: boolean }
  | {
      kind: "rm";
      folders: readonly string[];
      target: RemoveTarget;
      force: boolean;
      dryRun: boolean;
    };

/** A block file that is not what its name says. */
export interface CorruptFile {
  path: string;
  reason: string;
  /** Where it is now; null when it was left where it is. */
  quarantinedTo: string | null;
}

export interface VerifyResult {
  blocks: number;
  bytes: number;
  corrupt: CorruptFile[];
  /** Blocks that a server removed before they were read. */
  gone: number;
  /** Blocks that the device did not give. */
  unreadable: string[];
  durationMs: number;
}

export interface RemovedCount {
  count: number;
  bytes: number;
}

export interface CollectResult {
  blocks: RemovedCount;
  temps: RemovedCount;
  quarantined: RemovedCount;
  /** Folders of dead servers. */
  servers: RemovedCount;
  /** Blocks over the limits that were kept, as a server pinned or used them. */
  kept: RemovedCount;
  /** What the file system refused to remove. */
  failed: string[];
  /** Of blocks that are left. */
  bytesLeft: number;
}

export interface RemoveResult {
  blocks: RemovedCount;
  namespaces: string[];
  /** Servers that use what is removed. */
  users: string[];
  failed: string[];
}

/** What a request comes to. */
export interface CacheResults {
  scan: FolderScan[];
  verify: VerifyResult;
  gc: CollectResult;
  rm: RemoveResult;
}

export interface ToolProgress {
  done: number;
  total: number;
  bytes: number;
}

/** What the tool's process says; `beat` that it is alive and the device answers. */
export type ToolMessage =
  | { type: "beat" }
  | { type: "progress"; progress: ToolProgress }
  | { type: "result"; result: CacheResults[keyof CacheResults] }
  | { type: "failed"; error: SerializedError };

/** How an operation tells that it goes on. */
export interface Signals {
  beat(): void;
  progress(progress: ToolProgress): void;
}
