import { type Dirent, readdirSync, statfsSync, statSync } from "node:fs";
import { join, resolve } from "node:path";
import { UcmError } from "../errors/index.js";
import { loadNative } from "../native/index.js";
import { STORE_FOLDER } from "./blocks.js";
import type { FolderScan, Signals } from "./protocol.js";

/** Scans backend folders, in the order given. */
export function scanFolders(folders: readonly string[], signals: Signals): FolderScan[] {
  return folders.map((folder) => scanFolder(resolve(folder), signals));
}

/**
 * @throws UcmError UCM_ERR_CACHE_FOLDER for what is no folder of a store, UCM_ERR_CACHE_LOST when it
 *   could not be read to its end.
 */
export function scanFolder(folder: string, signals: Signals): FolderScan {
  assertIsStore(folder);
  const scan = loadNative().scanStoreFolder(folder, signals.beat);
  assertIsThere(folder);
  const [failure] = scan.failures;
  if (failure !== undefined) {
    throw new UcmError(
      "UCM_ERR_CACHE_FOLDER",
      `${folder}: cannot read ${failure.path}: ${failure.reason}. Run as a user who may, and see whether the disk is well.`,
    );
  }
  const { bsize, bavail, blocks } = statfsSync(folder);
  return { folder, scan, freeBytes: bavail * bsize, totalBytes: blocks * bsize };
}

function assertIsStore(folder: string): void {
  let entries: Dirent[];
  try {
    entries = readdirSync(folder, { withFileTypes: true });
  } catch (cause) {
    throw new UcmError("UCM_ERR_CACHE_FOLDER", `${folder}: ${reasonOf(cause)}`, { cause });
  }
  if (entries.some((entry) => entry.name === STORE_FOLDER && entry.isDirectory())) return;
  const hint = /\/ucm-v1(\/|$)/.test(folder)
    ? `give the folder above ${STORE_FOLDER}`
    : entries.length === 0
      ? "it is empty; no server has used it yet, or nothing is mounted there"
      : "give the folder that storage_backends names";
  throw new UcmError(
    "UCM_ERR_CACHE_FOLDER",
    `${folder}: not a folder of a KV cache store, as there is no ${STORE_FOLDER} in it: ${hint}.`,
  );
}

function reasonOf(cause: unknown): string {
  const { code, message } = cause as NodeJS.ErrnoException;
  if (code === "ENOENT") return "there is no such folder. Mount it, or correct its name.";
  if (code === "ENOTDIR") return "it is not a folder. Give the folder that storage_backends names.";
  if (code === "EACCES" || code === "EPERM")
    return "permission denied. Run as the user that the servers run as.";
  return `it cannot be read: ${message}`;
}

/** @throws UcmError UCM_ERR_CACHE_LOST when the folder is no more, as it was unmounted or removed. */
export function assertIsThere(folder: string): void {
  try {
    statSync(join(folder, STORE_FOLDER));
    return;
  } catch (cause) {
    throw lost(folder, cause);
  }
}

function lost(folder: string, cause: unknown): UcmError {
  return new UcmError(
    "UCM_ERR_CACHE_LOST",
    `${folder}: the folder went away meanwhile. See whether it is still mounted, then start again.`,
    { cause },
  );
}
