import { existsSync } from "node:fs";
import { HubApiError, type ListFileEntry, listFiles, modelInfo } from "@huggingface/hub";
import { UcmError } from "../errors/index.js";
import { log } from "../log/index.js";
import { CacheFolder } from "./cache-folder.js";
import { type DownloadOptions, downloadFile, type RemoteFile } from "./download-file.js";
import { type HubSubject, hubError } from "./hub-errors.js";
import type { HubOptions } from "./hub-options.js";

export interface SnapshotRequest {
  /** `Org/Name`. */
  name: string;
  /** Branch, tag or commit. */
  revision: string;
  /** Which files of the model to have, by path. */
  wants(path: string): boolean;
  options: HubOptions;
  signal: AbortSignal;
  onProgress(progress: { path: string; doneBytes: number; totalBytes: number }): void;
  /** For tests: how patient transfers are. */
  patience?: Pick<DownloadOptions, "stallMs" | "retryMs" | "tries">;
}

const MIB = 2 ** 20;

/**
 * The folder of a model's files in the hub's cache, downloaded as far as they are not there. Without a
 * connection, and offline, what was downloaded before is taken. UCM_ERR_MODEL_NOT_FOUND, UCM_ERR_REMOTE.
 */
export async function fetchSnapshot(request: SnapshotRequest): Promise<string> {
  const { name, revision, options } = request;
  const cache = new CacheFolder(options.cacheDir, name);
  if (options.isOffline) return findOffline(cache, request);
  const subject: HubSubject = { name, revision, endpoint: options.endpoint };
  let listing: Awaited<ReturnType<typeof listWanted>>;
  try {
    listing = await listWanted(request);
  } catch (error) {
    request.signal.throwIfAborted();
    const cached =
      error instanceof HubApiError && error.statusCode < 500 ? null : cache.findSnapshot(revision);
    const problem = hubError(subject, error);
    if (cached === null) throw problem;
    log.warning(`${problem.message} The copy of ${name} in the cache is used.`);
    return cached;
  }
  await downloadAll(cache, listing.commit, listing.files, request);
  cache.writeRef(revision, listing.commit);
  return cache.snapshotPath(listing.commit);
}

function findOffline(cache: CacheFolder, { name, revision }: SnapshotRequest): string {
  const cached = cache.findSnapshot(revision);
  if (cached !== null) return cached;
  throw new UcmError(
    "UCM_ERR_MODEL_NOT_FOUND",
    `HF_HUB_OFFLINE is set, and ${name} with revision ${revision} is not in the cache at ${cache.path}. Download it once without HF_HUB_OFFLINE, or give the folder of a model.`,
    { param: "model" },
  );
}

/** The commit that the revision is now, and its files that are wanted. */
async function listWanted({ name, revision, wants, options, signal }: SnapshotRequest) {
  const authorization = options.token === null ? {} : { authorization: `Bearer ${options.token}` };
  const access = {
    hubUrl: options.endpoint,
    fetch: (url: string | URL | Request, init: RequestInit = {}) =>
      fetch(url, { ...init, headers: { ...init.headers, ...authorization }, signal }),
  };
  const { sha: commit } = await modelInfo({ ...access, name, revision, additionalFields: ["sha"] });
  const files: (RemoteFile & { etag: string })[] = [];
  for await (const entry of listFiles({ ...access, repo: name, revision: commit })) {
    if (entry.type === "file" && isPlainName(entry.path) && wants(entry.path)) {
      files.push(describeEntry(entry, `${options.endpoint}/${name}/resolve/${commit}`));
    }
  }
  return { commit, files };
}

/** A name that stays in its folder: what the hub lists is not trusted further than that. */
function isPlainName(path: string): boolean {
  return path !== "" && path !== "." && path !== ".." && !/[/\\\0]/.test(path);
}

function describeEntry({ path, size, oid, lfs }: ListFileEntry, base: string) {
  const hex = lfs?.oid ?? oid ?? "";
  if (!/^[0-9a-f]{40}([0-9a-f]{24})?$/.test(hex)) {
    throw new UcmError("UCM_ERR_REMOTE", `The hub tells no hash of ${path}.`);
  }
  return {
    url: `${base}/${encodeURIComponent(path)}`,
    path,
    bytes: lfs?.size ?? size,
    hash: { algorithm: lfs === undefined ? ("git-sha1" as const) : ("sha256" as const), hex },
    etag: hex,
  };
}

async function downloadAll(
  cache: CacheFolder,
  commit: string,
  files: readonly (RemoteFile & { etag: string })[],
  { name, options, signal, onProgress, patience = {} }: SnapshotRequest,
): Promise<void> {
  const missing = files.filter(({ etag }) => !existsSync(cache.blobPath(etag)));
  const totalBytes = missing.reduce((total, { bytes }) => total + bytes, 0);
  if (missing.length > 0) {
    log.info(
      `Downloading ${name}: ${missing.length} files, ${(totalBytes / MIB).toFixed(1)} MiB, to ${cache.path}`,
    );
  }
  let doneBytes = 0;
  for (const file of missing) {
    await downloadFile(file, cache.blobPath(file.etag), {
      token: options.token,
      signal,
      onBytes: (bytes) => onProgress({ path: file.path, doneBytes: doneBytes + bytes, totalBytes }),
      ...patience,
    });
    doneBytes += file.bytes;
  }
  for (const { path, etag } of files) cache.linkBlob(commit, path, etag);
}
