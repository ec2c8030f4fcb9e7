import {
  existsSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { dirname, join, relative } from "node:path";
import { getRepoFolderName } from "@huggingface/hub";

/**
 * One model in the hub's standard cache: `blobs/<etag>`, `snapshots/<commit>/<path>` as links to them,
 * `refs/<revision>` with the commit. Other programs that use the hub share it.
 */
export class CacheFolder {
  readonly path: string;

  constructor(cacheDir: string, name: string) {
    this.path = join(cacheDir, getRepoFolderName({ type: "model", name }));
  }

  snapshotPath(commit: string): string {
    return join(this.path, "snapshots", commit);
  }

  /** The snapshot that a branch, tag or commit named last; null when it is not here. */
  findSnapshot(revision: string): string | null {
    const ref = join(this.path, "refs", revision);
    const commit = existsSync(ref) ? readFileSync(ref, "utf8").trim() : revision;
    const path = this.snapshotPath(commit);
    return existsSync(join(path, "config.json")) ? path : null;
  }

  /** Where a file's bytes are kept, under its hash. */
  blobPath(etag: string): string {
    return join(this.path, "blobs", etag);
  }

  /** Makes `path` of a snapshot a link to a blob that is there. */
  linkBlob(commit: string, path: string, etag: string): void {
    const link = join(this.snapshotPath(commit), path);
    if (existsSync(link)) return;
    mkdirSync(dirname(link), { recursive: true });
    // A link that leads nowhere does not exist for existsSync.
    rmSync(link, { force: true });
    symlinkSync(relative(dirname(link), this.blobPath(etag)), link);
  }

  /** Remembers that a revision is this commit, once the snapshot is whole. */
  writeRef(revision: string, commit: string): void {
    if (revision === commit) return;
    const ref = join(this.path, "refs", revision);
    mkdirSync(dirname(ref), { recursive: true });
    writeFileSync(`${ref}.tmp`, commit);
    renameSync(`${ref}.tmp`, ref);
  }
}
