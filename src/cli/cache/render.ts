import Table from "cli-table3";
import {
  blocksOf,
  type CollectResult,
  type FolderScan,
  type FolderStat,
  type NamespaceReport,
  namespaceReports,
  type RemovedCount,
  type RemoveResult,
  type ServerReport,
  totalCounts,
  type VerifyResult,
} from "../../cache-tool/index.js";
import { formatAge, formatSize } from "./units.js";

/** Digits of a namespace or key that a table shows; as many name one. */
const SHORT = 12;
/** Files that a list names one by one. */
const LIST_MAX = 20;

/** What `ucm cache ls` prints. */
export function renderList(folders: readonly FolderScan[], nowMs: number): string {
  return folders.map((folder) => renderNamespaces(folder, nowMs)).join("\n\n");
}

function renderNamespaces(folder: FolderScan, nowMs: number): string {
  const reports = namespaceReports(folder);
  const age = (atMs: number | null) => (atMs === null ? "-" : formatAge(nowMs - atMs));
  const rows = reports.map((report) => [
    report.namespace.slice(0, SHORT),
    report.model ?? "?",
    String(report.blocks),
    formatSize(report.bytes),
    age(report.oldestAtMs),
    age(report.newestAtMs),
    age(report.lastUsedAtMs),
    String(report.servers),
    report.details,
  ]);
  const head = [
    "NAMESPACE",
    "MODEL",
    "BLOCKS",
    "SIZE",
    "OLDEST",
    "NEWEST",
    "USED",
    "SERVERS",
    "WHAT",
  ];
  const title = `${folder.folder}: ${totalOf(reports)}`;
  return rows.length === 0 ? title : `${title}\n${table(head, rows)}`;
}

function totalOf(reports: readonly NamespaceReport[]): string {
  const count = reports.reduce((sum, { blocks }) => sum + blocks, 0);
  const bytes = reports.reduce((sum, report) => sum + report.bytes, 0);
  return `${plural(count, "block")} in ${plural(reports.length, "namespace")}, ${formatSize(bytes)}`;
}

/** What `ucm cache ls --blocks` prints: every block, the last used first. */
export function renderBlocks(folders: readonly FolderScan[], nowMs: number): string {
  const blocks = folders.flatMap(blocksOf).sort((a, b) => (a.usedAtNs < b.usedAtNs ? 1 : -1));
  const rows = blocks.map((block) => [
    block.key,
    block.namespace.slice(0, SHORT),
    formatSize(block.bytes),
    formatAge(nowMs - block.writtenAtMs),
    formatAge(nowMs - block.usedAtMs),
    block.isPinned ? "pinned" : "",
  ]);
  return table(["BLOCK", "NAMESPACE", "SIZE", "AGE", "USED", ""], rows);
}

/** What `ucm cache stat` prints. */
export function renderStats(stats: readonly FolderStat[], nowMs: number): string {
  return [...stats.map((stat) => renderStat(stat, nowMs)), renderCounts(stats)].join("\n\n");
}

function renderStat(stat: FolderStat, nowMs: number): string {
  const files = (count: number, bytes: number) => `${plural(count, "file")}, ${formatSize(bytes)}`;
  const alive = stat.servers.filter(({ isAlive }) => isAlive).length;
  const rows = [
    [
      "Blocks",
      `${stat.blocks} in ${plural(stat.namespaces, "namespace")}, ${formatSize(stat.blockBytes)}`,
    ],
    ["Folder", `${formatSize(stat.usedBytes)}, with all that is below`],
    ["File system", `${formatSize(stat.freeBytes)} free of ${formatSize(stat.totalBytes)}`],
    [
      "Pinned",
      `${plural(stat.pinnedBlocks, "block")}; removed ones still held: ${formatSize(stat.heldBytes)}`,
    ],
    ["Being written", files(stat.temps.count, stat.temps.bytes)],
    ["Quarantined", files(stat.quarantined.count, stat.quarantined.bytes)],
    ["Quota claims", `${formatSize(stat.claimBytes)} reserved by running servers`],
    ["Servers", `${alive} running, ${stat.servers.length - alive} dead`],
  ];
  const lines = rows.map(([name, value]) => `  ${name!.padEnd(14)}${value}`);
  const servers = stat.servers.map((server) => `    ${describeServer(server, nowMs)}`);
  return [stat.folder, ...lines, ...servers].join("\n");
}

function describeServer(server: ServerReport, nowMs: number): string {
  const { heartbeatAtMs, startedAtMs, namespace } = server;
  return [
    `${server.name} ${server.isAlive ? "running" : "dead"}`,
    startedAtMs === null ? null : `started ${formatAge(nowMs - startedAtMs)} ago`,
    heartbeatAtMs === 0 ? "no heartbeat" : `heartbeat ${formatAge(nowMs - heartbeatAtMs)} ago`,
    namespace === null ? null : `namespace ${namespace.slice(0, SHORT)}`,
    `claims ${formatSize(server.claimBytes)}`,
    plural(server.pins, "pin"),
  ]
    .filter((part) => part !== null)
    .join(", ");
}

/** Counts of all servers together, by what they are about. */
function renderCounts(stats: readonly FolderStat[]): string {
  const { servers, counts } = totalCounts(stats);
  if (servers === 0) return "Counts: no server is here to tell what it counted.";
  const of = (name: string) => counts[name] ?? 0;
  const rate =
    of("lookups") === 0 ? "" : ` (${((100 * of("lookupHits")) / of("lookups")).toFixed(1)} %)`;
  const rows = [
    ["Looked up", `${of("lookups")} blocks, ${of("lookupHits")} found${rate}`],
    [
      "Loaded",
      `${of("loadedBlocks")} blocks, ${formatSize(of("loadedBytes"))}; ${of("loadMisses")} were gone, ${of("loadFailures")} failed, ${of("loadTimeouts")} took too long`,
    ],
    [
      "Stored",
      `${of("dumpedBlocks")} blocks, ${formatSize(of("dumpedBytes"))}; ${of("dumpDuplicates")} were there, ${of("dumpsRefused")} found no room, ${of("dumpsDropped")} dropped, ${of("dumpFailures")} failed`,
    ],
    ["Damaged", `${of("corruptBlocks")} blocks, ${of("quarantinedBlocks")} quarantined`],
    ["Recycled", `${of("evictedBlocks")} blocks, ${formatSize(of("evictedBytes"))}`],
  ];
  const lines = rows.map(([name, value]) => `  ${name!.padEnd(14)}${value}`);
  const title = `Counts of ${plural(servers, "server")} in this place, each since its start, from files:`;
  return [title, ...lines].join("\n");
}

/** What `ucm cache verify` prints. */
export function renderVerify(result: VerifyResult): string {
  const { blocks, bytes, durationMs, gone, corrupt, unreadable } = result;
  const seconds = durationMs / 1000;
  const rate = seconds > 0 ? `, ${formatSize(Math.round(bytes / seconds))}/s` : "";
  const corruptLines = shorten(corrupt).map(({ path, reason, quarantinedTo }) => {
    const where = quarantinedTo === null ? "left where it is" : `now ${quarantinedTo}`;
    return `corrupt: ${path}: ${reason}; ${where}`;
  });
  return [
    ...corruptLines,
    ...rest(corrupt, "corrupt one"),
    ...shorten(unreadable).map((path) => `unreadable: ${path}`),
    ...rest(unreadable, "unreadable one"),
    `${plural(blocks, "block")} sound, ${formatSize(bytes)}; ${corrupt.length} corrupt, ${unreadable.length} unreadable, ${gone} removed meanwhile; ${seconds.toFixed(1)} s${rate}`,
  ].join("\n");
}

/** What `ucm cache gc` prints. */
export function renderCollect(result: CollectResult, isDryRun: boolean): string {
  const what = (name: string, { count, bytes }: RemovedCount) =>
    count === 0 ? [] : [`${plural(count, name)} (${formatSize(bytes)})`];
  const removed = [
    ...what("block", result.blocks),
    ...what("file of a dead writer", result.temps).map((text) => text.replace("writers", "writer")),
    ...what("quarantined file", result.quarantined),
    ...(result.servers.count === 0 ? [] : [plural(result.servers.count, "dead server")]),
  ];
  const verb = isDryRun ? "Would remove" : "Removed";
  const kept =
    result.kept.count === 0
      ? []
      : [
          `${plural(result.kept.count, "block")} over the limit kept, pinned or just used (${formatSize(result.kept.bytes)})`,
        ];
  return [
    `${verb} ${removed.length === 0 ? "nothing" : removed.join(", ")}; blocks ${isDryRun ? "would then take" : "now take"} ${formatSize(result.bytesLeft)}.`,
    ...kept,
    ...failures(result.failed),
  ].join("\n");
}

/** What `ucm cache rm` prints, and asks. */
export function renderRemove(result: RemoveResult, isDryRun: boolean): string {
  const { blocks, namespaces } = result;
  const whole = namespaces.length === 0 ? "" : ` of ${plural(namespaces.length, "namespace")}`;
  const verb = isDryRun ? "Would remove" : "Removed";
  return [
    `${verb} ${plural(blocks.count, "block")}${whole} (${formatSize(blocks.bytes)}).`,
    ...result.users.map((user) => `In use by ${user}.`),
    ...failures(result.failed),
  ].join("\n");
}

function failures(paths: readonly string[]): string[] {
  return [...shorten(paths).map((path) => `cannot remove: ${path}`), ...rest(paths, "other")];
}

function shorten<T>(items: readonly T[]): readonly T[] {
  return items.slice(0, LIST_MAX);
}

function rest(items: readonly unknown[], what: string): string[] {
  const count = items.length - LIST_MAX;
  return count > 0 ? [`and ${plural(count, what)}; --json names all`] : [];
}

function plural(count: number, noun: string): string {
  return `${count} ${noun}${count === 1 ? "" : "s"}`;
}

/** Columns without lines, as `ls` has them. */
function table(head: string[], rows: string[][]): string {
  const edges = ["top", "bottom", "mid"].flatMap((place) =>
    ["", "-mid", "-left", "-right"].map((side) => [`${place}${side}`, ""]),
  );
  const grid = new Table({
    chars: {
      ...Object.fromEntries(edges),
      ...{ left: "", "left-mid": "", "mid-mid": "", right: "", "right-mid": "", middle: "  " },
    },
    style: { "padding-left": 0, "padding-right": 0, head: [], border: [], compact: true },
    head,
  });
  grid.push(...rows);
  return grid
    .toString()
    .split("\n")
    .map((line) => line.trimEnd())
    .join("\n");
}
