import { unlinkSync } from "node:fs";
import type { LooseFile } from "../native/index.js";
import { loadNative } from "../native/index.js";
import { blocksOf, type ScannedBlock } from "./blocks.js";
import { assertIsThere, scanFolder } from "./folder.js";
import type {
  CacheRequest,
  CollectLimits,
  CollectResult,
  FolderScan,
  RemovedCount,
  Signals,
} from "./protocol.js";
import { removeBlocks } from "./remove-blocks.js";

/** No writer takes so long for one file. */
const TEMP_MS = 600_000;

/**
 * Removes blocks until the limits are met, the least recently used ones first, and what nobody uses any
 * more: files of dead writers, folders of dead servers, quarantined files. Never a pinned block.
 */
export function collect(
  { folders, limits, dryRun }: Extract<CacheRequest, { kind: "gc" }>,
  signals: Signals,
): CollectResult {
  const result: CollectResult = {
    blocks: { count: 0, bytes: 0 },
    temps: { count: 0, bytes: 0 },
    quarantined: { count: 0, bytes: 0 },
    servers: { count: 0, bytes: 0 },
    kept: { count: 0, bytes: 0 },
    failed: [],
    bytesLeft: 0,
  };
  for (const folder of folders) {
    const scan = scanFolder(folder, signals);
    collectFolder(scan, limits, dryRun, signals, result);
    assertIsThere(scan.folder);
  }
  return result;
}

function collectFolder(
  folder: FolderScan,
  limits: CollectLimits,
  dryRun: boolean,
  signals: Signals,
  result: CollectResult,
): void {
  const now = Date.now();
  const { scan } = folder;
  const blocks = blocksOf(folder);
  const { excess, kept } = chooseBlocks(blocks, limits, now);
  const outcome = removeBlocks(excess, { dryRun, force: false }, signals);
  const isLeft = ({ isTemp, isOfDeadWriter, writtenAtMs }: LooseFile) =>
    isTemp && (isOfDeadWriter || now - writtenAtMs > TEMP_MS);
  removeFiles(scan.temps.filter(isLeft), dryRun, signals, result.temps, result.failed);
  removeFiles(scan.quarantined, dryRun, signals, result.quarantined, result.failed);
  for (const server of scan.servers.filter(({ isDead }) => isDead)) {
    if (!dryRun) loadNative().removeServerFolder(folder.folder, server.name);
    result.servers.count += 1;
  }
  add(result.blocks, outcome.removed);
  add(result.kept, outcome.kept);
  add(result.kept, kept);
  result.failed.push(...outcome.failed);
  result.bytesLeft += blocks.reduce((sum, { bytes }) => sum + bytes, 0) - outcome.removed.bytes;
}

/** What is over the limits, and of that what is pinned. Pure. */
export function chooseBlocks(
  blocks: readonly ScannedBlock[],
  { maxBytes, maxAgeMs }: CollectLimits,
  nowMs: number,
): { excess: ScannedBlock[]; kept: RemovedCount } {
  const oldestFirst = [...blocks].sort((a, b) => (a.usedAtNs < b.usedAtNs ? -1 : 1));
  let left = blocks.reduce((sum, { bytes }) => sum + bytes, 0);
  const excess: ScannedBlock[] = [];
  const kept = { count: 0, bytes: 0 };
  for (const block of oldestFirst) {
    const isOld = maxAgeMs !== null && nowMs - block.usedAtMs > maxAgeMs;
    const isOver = maxBytes !== null && left > maxBytes;
    if (!isOld && !isOver) break;
    if (block.isPinned) {
      add(kept, { count: 1, bytes: block.bytes });
      continue;
    }
    left -= block.bytes;
    excess.push(block);
  }
  return { excess, kept };
}

function removeFiles(
  files: readonly LooseFile[],
  dryRun: boolean,
  signals: Signals,
  count: RemovedCount,
  failed: string[],
): void {
  for (const { path, bytes } of files) {
    signals.beat();
    try {
      if (!dryRun) unlinkSync(path);
      add(count, { count: 1, bytes });
    } catch (error) {
      // Its writer, or another collector, was faster.
      if ((error as NodeJS.ErrnoException).code !== "ENOENT") failed.push(path);
    }
  }
}

function add(count: RemovedCount, more: RemovedCount): void {
  count.count += more.count;
  count.bytes += more.bytes;
}
