import { basename, dirname } from "node:path";
import { blockStatus, loadNative } from "../native/index.js";
import { blocksOf } from "./blocks.js";
import { assertIsThere, scanFolders } from "./folder.js";
import type { CacheRequest, FolderScan, Signals, VerifyResult } from "./protocol.js";

/** Between two looks whether the folder still is there. */
const BLOCKS_PER_LOOK = 64;

/** What is wrong with a block file, or what became of it. */
type Verdict =
  | { kind: "sound"; bytes: number }
  | { kind: "gone" }
  | { kind: "unreadable" }
  | { kind: "corrupt"; reason: string; inode: bigint };

/**
 * Reads every byte of every block and compares it with its checksums, and what its header says with
 * its name and folder. What is damaged goes to the quarantine, as the store does it.
 */
export function verify(
  { folders, dryRun }: Extract<CacheRequest, { kind: "verify" }>,
  signals: Signals,
): VerifyResult {
  const started = performance.now();
  const scans = scanFolders(folders, signals);
  const files = scans.flatMap((scan) => blockFiles(scan).map((path) => ({ path, ...scan })));
  const result: VerifyResult = {
    blocks: 0,
    bytes: 0,
    corrupt: [],
    gone: 0,
    unreadable: [],
    durationMs: 0,
  };
  for (const [i, { path, folder }] of files.entries()) {
    if (i % BLOCKS_PER_LOOK === 0) assertIsThere(folder);
    count(result, path, verifyFile(path), dryRun ? null : folder);
    signals.progress({ done: i + 1, total: files.length, bytes: result.bytes });
  }
  // Blocks of a folder that is gone would all count as removed by someone.
  for (const { folder } of scans) assertIsThere(folder);
  result.durationMs = performance.now() - started;
  return result;
}

/** Blocks in their places, and files with the name of a block elsewhere. */
function blockFiles(scan: FolderScan): string[] {
  const strays = scan.scan.temps.map(({ path }) => path).filter((path) => path.endsWith(".kv"));
  return [...blocksOf(scan).map(({ path }) => path), ...strays];
}

function verifyFile(path: string): Verdict {
  const report = loadNative().verifyBlockFile(path);
  if (report.status === blockStatus.missing) return { kind: "gone" };
  if (report.status === blockStatus.failed) return { kind: "unreadable" };
  const { inode } = report;
  if (report.status === blockStatus.corrupt) {
    return { kind: "corrupt", reason: "its bytes do not fit its checksums", inode };
  }
  const shard = dirname(path);
  const key = basename(path, ".kv");
  if (report.key !== key) {
    return { kind: "corrupt", reason: `it is block ${report.key} by its header`, inode };
  }
  if (report.namespace !== basename(dirname(shard))) {
    return { kind: "corrupt", reason: `it is of namespace ${report.namespace}`, inode };
  }
  if (basename(shard) !== key.slice(0, 2)) {
    return { kind: "corrupt", reason: "it is in the folder of other keys", inode };
  }
  return { kind: "sound", bytes: report.fileBytes };
}

function count(result: VerifyResult, path: string, verdict: Verdict, folder: string | null): void {
  switch (verdict.kind) {
    case "sound":
      result.blocks += 1;
      result.bytes += verdict.bytes;
      break;
    case "gone":
      result.gone += 1;
      break;
    case "unreadable":
      result.unreadable.push(path);
      break;
    case "corrupt": {
      const { reason, inode } = verdict;
      const target = folder === null ? "" : loadNative().quarantineBlock(folder, path, inode);
      result.corrupt.push({ path, reason, quarantinedTo: target === "" ? null : target });
    }
  }
}
