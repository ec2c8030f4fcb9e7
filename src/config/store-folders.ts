import { accessSync, constants, existsSync, mkdirSync, statSync } from "node:fs";
import { dirname, resolve } from "node:path";
import { UcmError } from "../errors/index.js";
import { log } from "../log/index.js";
import { invalid } from "./store-extra.js";

/** The folders of a store, there and writable. One whose parent is there is made. */
export function openBackends(name: string, given: string): string[] {
  return splitBackends(name, given).map((folder) => openBackend(resolve(folder)));
}

/** storage_backends as a list, at least one. */
export function splitBackends(name: string, given: string): string[] {
  const folders = given.split(":").filter((folder) => folder !== "");
  if (folders.length > 0) return folders;
  throw invalid(
    `${name} needs storage_backends: the folder for its files, or several with ':' between them.`,
  );
}

function openBackend(folder: string): string {
  try {
    if (statSync(folder, { throwIfNoEntry: false }) === undefined) {
      mkdirSync(folder);
      log.info(`Created the folder ${folder} for the KV cache store.`);
    }
    if (!statSync(folder).isDirectory()) throw unusable(folder, "it is not a folder");
    accessSync(folder, constants.R_OK | constants.W_OK | constants.X_OK);
    return folder;
  } catch (error) {
    if (error instanceof UcmError) throw error;
    const { code } = error as NodeJS.ErrnoException;
    const hasParent = existsSync(dirname(folder));
    const reason = hasParent ? String(code) : "it and the folder above it do not exist";
    throw unusable(folder, reason, error);
  }
}

function unusable(folder: string, reason: string, cause?: unknown): UcmError {
  return new UcmError(
    "UCM_ERR_CONFIG",
    `storage_backends: the folder ${folder} cannot be used: ${reason}. Create it, or mount it, so that it can be read and written.`,
    { cause },
  );
}
