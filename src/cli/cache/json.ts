import {
  blocksOf,
  type FolderScan,
  folderStat,
  namespaceReports,
  totalCounts,
} from "../../cache-tool/index.js";

/** `--json` of ls: what the table shows, with names in full; times are Unix milliseconds. */
export function listJson(folders: readonly FolderScan[], withBlocks: boolean): object {
  return {
    folders: folders.map((folder) => ({
      folder: folder.folder,
      namespaces: namespaceReports(folder),
      ...(withBlocks ? { blocks: blocksOf(folder).map(({ usedAtNs, ...block }) => block) } : {}),
    })),
  };
}

/** `--json` of stat. */
export function statJson(folders: readonly FolderScan[]): object {
  const stats = folders.map(folderStat);
  return { folders: stats, total: totalCounts(stats) };
}
