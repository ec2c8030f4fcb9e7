import { blocksOf, type ScannedBlock } from "./blocks.js";
import type { FolderScan } from "./protocol.js";

/** What a namespace's `about` file says; fields that it lacks are null. */
export interface NamespaceAbout {
  model: string | null;
  /** Architecture, formats, block size and rank, in few words. */
  details: string;
}

export interface NamespaceReport extends NamespaceAbout {
  namespace: string;
  blocks: number;
  bytes: number;
  pinnedBlocks: number;
  /** Unix time; null without blocks. */
  oldestAtMs: number | null;
  newestAtMs: number | null;
  lastUsedAtMs: number | null;
  /** Servers that are alive and use it. */
  servers: number;
}

/** What a server tells of itself. */
export interface ServerReport {
  name: string;
  isAlive: boolean;
  heartbeatAtMs: number;
  claimBytes: number;
  pins: number;
  /** Null for one that does not tell, which is one of an older version. */
  namespace: string | null;
  /** Servers of several folders have one in each; the counts are of all. */
  store: string | null;
  startedAtMs: number | null;
  counts: Record<string, number>;
}

export interface FolderStat {
  folder: string;
  blocks: number;
  blockBytes: number;
  /** With what is no block: files being written, quarantined, pinned and removed. */
  usedBytes: number;
  freeBytes: number;
  totalBytes: number;
  namespaces: number;
  pinnedBlocks: number;
  /** Bytes of blocks that only a pin still holds. */
  heldBytes: number;
  temps: { count: number; bytes: number };
  quarantined: { count: number; bytes: number };
  claimBytes: number;
  servers: ServerReport[];
}

/** Namespaces of a folder, the last used first. */
export function namespaceReports(folder: FolderScan): NamespaceReport[] {
  const servers = serverReports(folder);
  const byName = new Map<string, ScannedBlock[]>();
  for (const block of blocksOf(folder)) {
    const blocks = byName.get(block.namespace);
    if (blocks === undefined) byName.set(block.namespace, [block]);
    else blocks.push(block);
  }
  const reports = folder.scan.namespaces.map(({ name, about }) => {
    const blocks = byName.get(name) ?? [];
    return {
      namespace: name,
      ...readAbout(about),
      blocks: blocks.length,
      bytes: sum(blocks, ({ bytes }) => bytes),
      pinnedBlocks: blocks.filter(({ isPinned }) => isPinned).length,
      oldestAtMs: extreme(blocks, ({ writtenAtMs }) => writtenAtMs, Math.min),
      newestAtMs: extreme(blocks, ({ writtenAtMs }) => writtenAtMs, Math.max),
      lastUsedAtMs: extreme(blocks, ({ usedAtMs }) => usedAtMs, Math.max),
      servers: servers.filter(({ isAlive, namespace }) => isAlive && namespace === name).length,
    };
  });
  return reports.sort((a, b) => (b.lastUsedAtMs ?? 0) - (a.lastUsedAtMs ?? 0));
}

function extreme(
  blocks: readonly ScannedBlock[],
  toNumber: (block: ScannedBlock) => number,
  choose: (a: number, b: number) => number,
): number | null {
  return blocks.length === 0 ? null : blocks.map(toNumber).reduce((a, b) => choose(a, b));
}

/** The line that a server keeps beside a namespace: JSON of ours, or whatever else is there. */
export function readAbout(about: string): NamespaceAbout {
  let facts: Record<string, unknown>;
  try {
    facts = JSON.parse(about);
  } catch {
    return { model: null, details: about.trim().split("\n")[0] ?? "" };
  }
  const { model, architecture, dtype, quantization, kvDtype, blockSize, rank, worldSize } = facts;
  const details = [
    architecture,
    `weights ${quantization ?? dtype}`,
    `KV ${kvDtype}`,
    `${blockSize} tokens`,
    ...(typeof worldSize === "number" && worldSize > 1 ? [`rank ${rank} of ${worldSize}`] : []),
  ];
  return { model: typeof model === "string" ? model : null, details: details.join(", ") };
}

export function serverReports({ scan }: FolderScan): ServerReport[] {
  return scan.servers.map(({ name, isDead, heartbeatAtMs, claimBytes, pins, stats }) => {
    const lines = stats.split("\n").map((line) => line.split(" "));
    const { namespace, store, startedAtMs, ...counts } = Object.fromEntries(
      lines.filter((line) => line.length === 2),
    ) as Record<string, string>;
    return {
      name,
      isAlive: !isDead,
      heartbeatAtMs,
      claimBytes,
      pins,
      namespace: namespace ?? null,
      store: store ?? null,
      startedAtMs: startedAtMs === undefined ? null : Number(startedAtMs),
      counts: Object.fromEntries(Object.entries(counts).map(([key, n]) => [key, Number(n)])),
    };
  });
}

export function folderStat(folder: FolderScan): FolderStat {
  const { scan } = folder;
  const servers = serverReports(folder);
  return {
    folder: folder.folder,
    blocks: scan.bytes.length,
    blockBytes: sum([...scan.bytes], (bytes) => bytes),
    usedBytes: scan.usedBytes,
    freeBytes: folder.freeBytes,
    totalBytes: folder.totalBytes,
    namespaces: scan.namespaces.length,
    pinnedBlocks: scan.pinned.reduce((count, pinned) => count + pinned, 0),
    heldBytes: sum(scan.pins, ({ bytes }) => bytes),
    temps: count(scan.temps),
    quarantined: count(scan.quarantined),
    claimBytes: sum(
      servers.filter(({ isAlive }) => isAlive),
      ({ claimBytes }) => claimBytes,
    ),
    servers,
  };
}

function count(files: readonly { bytes: number }[]) {
  return { count: files.length, bytes: sum(files, ({ bytes }) => bytes) };
}

/**
 * Sums of what the servers of some folders counted since they started. A server of several folders
 * tells the same in each, and counts once; one that has left takes its counts along.
 */
export function totalCounts(stats: readonly FolderStat[]): {
  servers: number;
  counts: Record<string, number>;
} {
  const stores = new Map<string, Record<string, number>>();
  for (const { servers } of stats) {
    for (const { store, counts } of servers) if (store !== null) stores.set(store, counts);
  }
  const totals: Record<string, number> = {};
  for (const counts of stores.values()) {
    for (const [name, value] of Object.entries(counts)) totals[name] = (totals[name] ?? 0) + value;
  }
  return { servers: stores.size, counts: totals };
}

function sum<T>(items: readonly T[], toNumber: (item: T) => number): number {
  return items.reduce((total, item) => total + toNumber(item), 0);
}
