import { readdirSync, rmdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { UcmError } from "../errors/index.js";
import { blocksOf, namespaceFolder, type ScannedBlock } from "./blocks.js";
import { collect } from "./collect.js";
import { assertIsThere, scanFolders } from "./folder.js";
import type { CacheRequest, FolderScan, RemoveResult, RemoveTarget, Signals } from "./protocol.js";
import { removeBlocks } from "./remove-blocks.js";
import { readAbout, serverReports } from "./report.js";

/** What of a folder a target means. */
interface Selection {
  folder: FolderScan;
  blocks: ScannedBlock[];
  /** Namespaces that go altogether. */
  whole: string[];
  /** Namespaces that lose blocks. */
  touched: Set<string>;
}

/**
 * Removes blocks by what they are called; `all` with what nobody uses any more.
 * @throws UcmError UCM_ERR_USAGE when the target names nothing, or several namespaces;
 *   UCM_ERR_CACHE_IN_USE when a server that is alive uses it and `force` is not given.
 */
export function remove(
  { folders, target, force, dryRun }: Extract<CacheRequest, { kind: "rm" }>,
  signals: Signals,
): RemoveResult {
  const scans = scanFolders(folders, signals);
  const selections = scans.map((scan) => select(scan, target));
  assertMeansOne(selections, target);
  const users = selections.flatMap(usersOf);
  if (users.length > 0 && !force && !dryRun) throw inUse(users);
  const result: RemoveResult = {
    blocks: { count: 0, bytes: 0 },
    namespaces: [...new Set(selections.flatMap(({ whole }) => whole))],
    users,
    failed: [],
  };
  for (const selection of selections) {
    const outcome = removeBlocks(selection.blocks, { dryRun, force: true }, signals);
    result.blocks.count += outcome.removed.count;
    result.blocks.bytes += outcome.removed.bytes;
    result.failed.push(...outcome.failed);
    // A server that is alive goes on writing into its folder.
    if (!dryRun && users.length === 0) {
      for (const name of selection.whole) dropFolder(selection, name);
    }
    assertIsThere(selection.folder.folder);
  }
  if (target.kind === "all" && !dryRun) {
    const limits = { maxBytes: null, maxAgeMs: null };
    result.failed.push(...collect({ kind: "gc", folders, limits, dryRun }, signals).failed);
  }
  return result;
}

function select(folder: FolderScan, target: RemoveTarget): Selection {
  const { namespaces } = folder.scan;
  const names = (isMeant: (namespace: { name: string; about: string }) => boolean) =>
    namespaces.filter(isMeant).map(({ name }) => name);
  let whole: string[] = [];
  if (target.kind === "all") whole = names(() => true);
  if (target.kind === "namespace") whole = names(({ name }) => name.startsWith(target.name));
  if (target.kind === "model") whole = names(({ about }) => readAbout(about).model === target.name);
  const isMeant = ({ key, namespace }: ScannedBlock) =>
    target.kind === "block" ? key.startsWith(target.key) : whole.includes(namespace);
  const blocks = blocksOf(folder).filter(isMeant);
  const touched = new Set([...whole, ...blocks.map(({ namespace }) => namespace)]);
  return { folder, blocks, whole, touched };
}

/** The start of a name is enough, if it is of one only; folders of one store share namespaces. */
function assertMeansOne(selections: readonly Selection[], target: RemoveTarget): void {
  if (target.kind === "all") return;
  const what = target.kind === "block" ? target.key : target.name;
  const numMeant = selections.reduce((n, { touched }) => n + touched.size, 0);
  if (numMeant === 0) {
    throw new UcmError(
      "UCM_ERR_USAGE",
      `no ${target.kind} '${what}' is in the cache; \`ucm cache ls\` lists what is${target.kind === "block" ? ", with --blocks each block" : ""}.`,
    );
  }
  if (target.kind === "model") return;
  const meant = new Set(
    selections.flatMap(({ blocks, whole }) =>
      target.kind === "block" ? blocks.map(({ key }) => key) : whole,
    ),
  );
  if (meant.size <= 1) return;
  throw new UcmError(
    "UCM_ERR_USAGE",
    `'${what}' is the start of ${meant.size} ${target.kind}s: ${[...meant].slice(0, 3).join(", ")}${meant.size > 3 ? ", …" : ""}. Give more of it.`,
  );
}

/** Servers that are alive and may use what is selected: those that do not tell may use anything. */
function usersOf({ folder, touched }: Selection): string[] {
  if (touched.size === 0) return [];
  return serverReports(folder)
    .filter(({ isAlive }) => isAlive)
    .filter(({ namespace }) => namespace === null || touched.has(namespace))
    .map(({ name }) => name);
}

function inUse(users: readonly string[]): UcmError {
  const [first] = users;
  const others = users.length > 1 ? ` and ${users.length - 1} more` : "";
  return new UcmError(
    "UCM_ERR_CACHE_IN_USE",
    `${users.length === 1 ? "a running server uses" : "running servers use"} this part of the cache (${first}${others}). Stop them, or give --force: they then compute again what they miss. To make room beside them, use \`ucm cache gc\`.`,
  );
}

/** Removes what is left of a namespace; where something is being written into it, that stays. */
function dropFolder({ folder }: Selection, name: string): void {
  const path = namespaceFolder(folder.folder, name);
  for (let shard = 0; shard < 256; shard++) {
    removeIfEmpty(join(path, shard.toString(16).padStart(2, "0")));
  }
  const left = readdirSync(path);
  if (left.some((entry) => entry !== "about")) return;
  rmSync(join(path, "about"), { force: true });
  removeIfEmpty(path);
}

function removeIfEmpty(path: string): void {
  try {
    rmdirSync(path);
  } catch {
    // It is not there, or not empty: both are as they should be.
  }
}
