import { join } from "node:path";
import type { FolderScan } from "./protocol.js";

/** One block of a scan. */
export interface ScannedBlock {
  key: string;
  namespace: string;
  path: string;
  /** On disk. */
  bytes: number;
  writtenAtMs: number;
  usedAtMs: number;
  /** As exactly as its file has it. */
  usedAtNs: bigint;
  isPinned: boolean;
}

/** The store's own folder in a backend folder. */
export const STORE_FOLDER = "ucm-v1";

export function namespaceFolder(folder: string, namespace: string): string {
  return join(folder, STORE_FOLDER, "blocks", namespace);
}

export function blocksOf({ folder, scan }: Pick<FolderScan, "folder" | "scan">): ScannedBlock[] {
  const keys = Buffer.from(scan.keys.buffer, scan.keys.byteOffset, scan.keys.byteLength);
  return Array.from(scan.bytes, (bytes, i) => {
    const key = keys.toString("hex", i * 32, i * 32 + 32);
    const namespace = scan.namespaces[scan.namespaceIds[i]!]!.name;
    const usedAtNs = scan.usedAtNs[i]!;
    return {
      key,
      namespace,
      path: join(namespaceFolder(folder, namespace), key.slice(0, 2), `${key}.kv`),
      bytes,
      writtenAtMs: scan.writtenAtMs[i]!,
      usedAtMs: Number(usedAtNs / 1_000_000n),
      usedAtNs,
      isPinned: scan.pinned[i] === 1,
    };
  });
}
