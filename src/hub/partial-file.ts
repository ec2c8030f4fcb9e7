import { randomUUID } from "node:crypto";
import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { hostname } from "node:os";

/** Where a download is gathered. */
export interface PartialFile {
  path: string;
  release(): void;
}

/**
 * `target.incomplete`, from which a later call goes on, for one process at a time; a second one that
 * downloads the same gets a file of its own, so that neither writes into what the other has checked.
 */
export function claimPartialFile(target: string): PartialFile {
  const path = `${target}.incomplete`;
  const lock = `${path}.lock`;
  if (tryLock(lock)) return { path, release: () => rmSync(lock, { force: true }) };
  const own = `${target}.${randomUUID()}.incomplete`;
  return { path: own, release: () => rmSync(own, { force: true }) };
}

/** True when the lock was free, or its holder is a process of this machine that is gone. */
function tryLock(lock: string): boolean {
  const me = `${hostname()} ${process.pid}`;
  try {
    writeFileSync(lock, me, { flag: "wx" });
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
  }
  const [host, pid] = readFileSync(lock, "utf8").split(" ");
  if (host !== hostname() || isRunning(Number(pid))) return false;
  writeFileSync(lock, me);
  return true;
}

function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM";
  }
}
