import { unlinkSync } from "node:fs";
import { constants } from "node:os";
import { loadNative } from "../native/index.js";
import type { ScannedBlock } from "./blocks.js";
import type { RemovedCount, Signals } from "./protocol.js";

export interface BlocksOutcome {
  removed: RemovedCount;
  /** Pinned or used since the scan. */
  kept: RemovedCount;
  failed: string[];
}

/** Removes blocks; with `force` those too that a server pinned or used meanwhile. */
export function removeBlocks(
  blocks: readonly ScannedBlock[],
  { dryRun, force }: { dryRun: boolean; force: boolean },
  signals: Signals,
): BlocksOutcome {
  const removed = { count: 0, bytes: 0 };
  const kept = { count: 0, bytes: 0 };
  const failed: string[] = [];
  for (const [i, { path, bytes, usedAtNs }] of blocks.entries()) {
    const error = dryRun
      ? 0
      : force
        ? errnoOf(() => unlinkSync(path))
        : loadNative().removeUnusedBlock(path, usedAtNs);
    if (error === 0) {
      removed.count += 1;
      removed.bytes += bytes;
    } else if (error === constants.errno.EBUSY) {
      kept.count += 1;
      kept.bytes += bytes;
    } else if (error !== constants.errno.ENOENT) {
      failed.push(path);
    }
    signals.progress({ done: i + 1, total: blocks.length, bytes: removed.bytes });
  }
  return { removed, kept, failed };
}

function errnoOf(call: () => void): number {
  try {
    call();
    return 0;
  } catch (error) {
    return -((error as NodeJS.ErrnoException).errno ?? -constants.errno.EIO);
  }
}
