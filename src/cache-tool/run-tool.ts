import { fileURLToPath } from "node:url";
import { execaNode } from "execa";
import { UcmError } from "../errors/index.js";
import type { CacheRequest, CacheResults, ToolMessage, ToolProgress } from "./protocol.js";

export interface ToolOptions {
  /** Silence after which the device counts as hung. */
  timeoutMs: number;
  onProgress?: (progress: ToolProgress) => void;
}

const entry = fileURLToPath(new URL("./main.js", import.meta.url));

/**
 * Runs an operation on folders in a process of its own: a mount that hangs holds a process in the
 * kernel for as long as it likes, and this one must go on. Rejects with UCM_ERR_TIMEOUT then.
 */
export async function runCacheTool<Request extends CacheRequest>(
  request: Request,
  { timeoutMs, onProgress }: ToolOptions,
): Promise<CacheResults[Request["kind"]]> {
  const child = execaNode(entry, [], {
    ipc: true,
    serialization: "advanced",
    stdin: "ignore",
    stdout: "ignore",
    stderr: "inherit",
    buffer: false,
    reject: false,
    cleanup: true,
  });
  let hang: NodeJS.Timeout | undefined;
  try {
    return await new Promise((resolve, reject) => {
      hang = setTimeout(() => reject(hung(request.folders, timeoutMs)), timeoutMs);
      child.on("message", (raw) => {
        const message = raw as unknown as ToolMessage;
        hang?.refresh();
        if (message.type === "progress") onProgress?.(message.progress);
        if (message.type === "failed") reject(UcmError.fromJSON(message.error));
        if (message.type === "result") resolve(message.result as CacheResults[Request["kind"]]);
      });
      void child.then(({ signal: killer, exitCode }) => {
        const how = killer === undefined ? `exit code ${exitCode}` : killer;
        reject(new UcmError("UCM_ERR_INTERNAL", `The process of the tool ended with ${how}.`));
      });
      child.send(request as never, () => {});
    });
  } finally {
    clearTimeout(hang);
    // One that hangs in the kernel ends when the device answers; nobody waits for that.
    child.kill("SIGKILL");
    child.unref();
    if (child.connected) child.disconnect();
  }
}

function hung(folders: readonly string[], timeoutMs: number): UcmError {
  return new UcmError(
    "UCM_ERR_TIMEOUT",
    `${folders.join(", ")}: the file system did not answer within ${timeoutMs / 1000} s. See whether its server is up and the mount is well, or give it more time with --timeout.`,
  );
}
