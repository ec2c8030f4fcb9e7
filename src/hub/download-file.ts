import { createHash, type Hash } from "node:crypto";
import {
  createReadStream,
  createWriteStream,
  mkdirSync,
  renameSync,
  rmSync,
  statSync,
} from "node:fs";
import { dirname } from "node:path";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import type { ReadableStream } from "node:stream/web";
import { setTimeout as delay } from "node:timers/promises";
import { UcmError } from "../errors/index.js";
import { statusError } from "./hub-errors.js";
import { claimPartialFile } from "./partial-file.js";

/** A file of a model on the hub. */
export interface RemoteFile {
  url: string;
  /** For messages. */
  path: string;
  bytes: number;
  /** Of the content for LFS files, of git's blob (`blob <bytes>\0` and the content) for others. */
  hash: { algorithm: "sha256" | "git-sha1"; hex: string };
}

export interface DownloadOptions {
  token: string | null;
  signal: AbortSignal;
  /** Called with the bytes that are there, from 0 up; a restart makes them fall. */
  onBytes(bytes: number): void;
  /** Silence after which a transfer counts as broken. */
  stallMs?: number;
  /** Pause before the second try; it doubles from try to try. */
  retryMs?: number;
  tries?: number;
}

const defaults = { stallMs: 30_000, retryMs: 1_000, tries: 6 };

/** A failure that another try may mend. */
class TransferProblem extends Error {}

/**
 * Downloads to `target` by way of `target.incomplete`, which a later call goes on from. Broken and stalled
 * transfers are tried again from where they ended; the file appears only when size and hash are right.
 * UCM_ERR_REMOTE when it cannot be had, UCM_ERR_MODEL_NOT_FOUND when it is refused.
 */
export async function downloadFile(
  file: RemoteFile,
  target: string,
  options: DownloadOptions,
): Promise<void> {
  mkdirSync(dirname(target), { recursive: true });
  const partial = claimPartialFile(target);
  try {
    await gather(file, partial.path, options);
    renameSync(partial.path, target);
  } finally {
    partial.release();
  }
}

/** Tries until the partial file is whole and right. */
async function gather(file: RemoteFile, partial: string, options: DownloadOptions): Promise<void> {
  const { retryMs, tries } = { ...defaults, ...options };
  for (let attempt = 1; ; attempt++) {
    try {
      await transfer(file, partial, options);
      await verify(file, partial);
      return;
    } catch (error) {
      options.signal.throwIfAborted();
      if (!isMendable(error)) throw error;
      if (attempt === tries) {
        throw new UcmError(
          "UCM_ERR_REMOTE",
          `Downloading ${file.path} failed ${tries} times, last because ${reasonOf(error)}. What has come is kept: run the same command again to go on.`,
          { cause: error },
        );
      }
      await delay(retryMs * 2 ** (attempt - 1), undefined, { signal: options.signal });
    }
  }
}

/** Broken connections of fetch are TypeErrors; those while reading have a system's code. */
function isMendable(error: unknown): boolean {
  if (error instanceof TransferProblem || error instanceof TypeError) return true;
  const code = (error as NodeJS.ErrnoException).code ?? "";
  return /^(ECONN|EPIPE|ETIMEDOUT|ENOTFOUND|EAI_AGAIN|UND_ERR)/.test(code);
}

function reasonOf(error: unknown): string {
  const { cause, message } = error as Error;
  return cause instanceof Error ? cause.message || message : message;
}

function sizeOf(path: string): number {
  return statSync(path, { throwIfNoEntry: false })?.size ?? 0;
}

/** Appends what is missing. */
async function transfer(
  file: RemoteFile,
  partial: string,
  options: DownloadOptions,
): Promise<void> {
  if (sizeOf(partial) > file.bytes) rmSync(partial);
  const have = sizeOf(partial);
  options.onBytes(have);
  if (have === file.bytes && have > 0) return;
  const guard = new StallGuard(options.stallMs ?? defaults.stallMs, options.signal);
  try {
    const response = await fetch(file.url, {
      headers: {
        ...(options.token === null ? {} : { authorization: `Bearer ${options.token}` }),
        ...(have === 0 ? {} : { range: `bytes=${have}-` }),
        // A compressed answer could not be continued.
        "accept-encoding": "identity",
      },
      signal: guard.signal,
    });
    if (!response.ok) throw refusal(file, response.status);
    // A server may ignore the range and send all.
    const isWhole = response.status !== 206;
    let bytes = isWhole ? 0 : have;
    const source =
      response.body === null
        ? Readable.from([])
        : Readable.fromWeb(response.body as ReadableStream);
    source.on("data", (piece: Buffer) => {
      guard.reset();
      bytes += piece.length;
      options.onBytes(bytes);
    });
    await pipeline(source, createWriteStream(partial, { flags: isWhole ? "w" : "a" }));
    if (bytes < file.bytes)
      throw new TransferProblem(`it ended after ${bytes} of ${file.bytes} bytes`);
  } catch (error) {
    if (guard.isStalled) throw new TransferProblem("no data came for too long");
    throw error;
  } finally {
    guard.stop();
  }
}

function refusal(file: RemoteFile, status: number): Error {
  if (status >= 500 || status === 408 || status === 429) {
    return new TransferProblem(`the server answered ${status}`);
  }
  const { origin } = new URL(file.url);
  return statusError({ name: file.path, revision: "", endpoint: origin }, status);
}

/** Aborts when nothing happens for a time, or with the caller. */
class StallGuard {
  readonly #controller = new AbortController();
  readonly #timer: NodeJS.Timeout;
  readonly signal: AbortSignal;
  isStalled = false;

  constructor(stallMs: number, outer: AbortSignal) {
    this.signal = AbortSignal.any([this.#controller.signal, outer]);
    this.#timer = setTimeout(() => {
      this.isStalled = true;
      this.#controller.abort();
    }, stallMs);
  }

  reset(): void {
    this.#timer.refresh();
  }

  stop(): void {
    clearTimeout(this.#timer);
  }
}

/** A file that is not what the hub says it is, is removed. */
async function verify({ bytes, hash }: RemoteFile, partial: string): Promise<void> {
  const size = sizeOf(partial);
  const digest = size === bytes ? await hashFile(partial, bytes, hash.algorithm) : null;
  if (digest === hash.hex) return;
  rmSync(partial, { force: true });
  throw new TransferProblem(
    digest === null
      ? `${size} bytes came in place of ${bytes}`
      : `its ${hash.algorithm} is ${digest} in place of ${hash.hex}`,
  );
}

async function hashFile(path: string, bytes: number, algorithm: string): Promise<string> {
  const hash: Hash = createHash(algorithm === "sha256" ? "sha256" : "sha1");
  if (algorithm === "git-sha1") hash.update(`blob ${bytes}\0`);
  if (bytes > 0) await pipeline(createReadStream(path), hash);
  return hash.digest("hex");
}
