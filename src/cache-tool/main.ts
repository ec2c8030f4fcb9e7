import { toUcmError } from "../errors/index.js";
import { collect } from "./collect.js";
import { scanFolders } from "./folder.js";
import type { CacheRequest, CacheResults, Signals, ToolMessage } from "./protocol.js";
import { remove } from "./remove.js";
import { verify } from "./verify.js";

/**
 * Entry of the tool's process: one request over Node's IPC channel, then one result. Everything in it
 * may wait for a device, so nobody must wait for it without a limit.
 */
function send(message: ToolMessage): void {
  process.send?.(message);
}

const signals: Signals = {
  beat: () => send({ type: "beat" }),
  progress: (progress) => send({ type: "progress", progress }),
};

function run(request: CacheRequest): CacheResults[keyof CacheResults] {
  switch (request.kind) {
    case "scan":
      return scanFolders(request.folders, signals);
    case "verify":
      return verify(request, signals);
    case "gc":
      return collect(request, signals);
    case "rm":
      return remove(request, signals);
  }
}

process.once("message", (request: CacheRequest) => {
  try {
    send({ type: "result", result: run(request) });
  } catch (error) {
    send({ type: "failed", error: toUcmError(error).toJSON() });
  }
});
