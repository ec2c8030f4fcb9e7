import { closeSync, constants, openSync, readSync } from "node:fs";
import { tmpdir } from "node:os";
import { UcmError } from "../errors/index.js";

/** open(2)'s O_TMPFILE of Linux, which Node does not name. */
const O_TMPFILE = 0o20000000 | constants.O_DIRECTORY;

/** Bytes between two ranks' signs of life: a cache line. */
const HEARTBEAT_BYTES = 64;

/** Counters that a worker raises; see Heartbeat in native/comm/shared_region.h. */
export interface Heartbeat {
  /** While it computes a step. */
  progress: bigint;
  /** While it waits for one. */
  idle: bigint;
}

/**
 * The memory that the workers of a group share: a file without a name, which each inherits. When the
 * last process that has it open is gone, so is it.
 */
export class SharedFile {
  readonly descriptor: number;
  readonly #words = new BigUint64Array(2);

  /** @throws UcmError UCM_ERR_CONFIG when the system has no place for it. */
  constructor() {
    this.descriptor = openNameless(["/dev/shm", tmpdir()]);
  }

  heartbeat(rank: number): Heartbeat {
    this.#words.fill(0n);
    readSync(this.descriptor, this.#words, 0, this.#words.byteLength, rank * HEARTBEAT_BYTES);
    return { progress: this.#words[0]!, idle: this.#words[1]! };
  }

  close(): void {
    closeSync(this.descriptor);
  }
}

function openNameless(folders: readonly string[]): number {
  const reasons: string[] = [];
  for (const folder of folders) {
    try {
      return openSync(folder, constants.O_RDWR | O_TMPFILE, 0o600);
    } catch (error) {
      reasons.push((error as Error).message);
    }
  }
  throw new UcmError(
    "UCM_ERR_CONFIG",
    `Workers need a file to share memory, and there is no place for it: ${reasons.join("; ")}. Make /dev/shm writable.`,
  );
}
