import type { EngineConfig } from "../config/engine-config.js";
import { UcmError } from "../errors/index.js";
import { log } from "../log/index.js";
import type { LoadFailure, StartedSequence } from "../scheduler/index.js";

/** Logs one line for a request of whose prompt something was found. */
export function logPrefix(
  requestId: string,
  sequence: StartedSequence,
  { cache: { blockSize }, store }: EngineConfig,
): void {
  const { promptLength, numCachedTokens, loadedBlocks = { memory: 0, file: 0 } } = sequence;
  if (numCachedTokens === 0) return;
  const memory = loadedBlocks.memory * blockSize;
  const file = loadedBlocks.file * blockSize;
  const arena = numCachedTokens - memory - file;
  const write = store === null ? log.debug : log.info;
  write(
    `Request ${requestId}: prompt tokens: ${promptLength}, computed: ${promptLength - numCachedTokens}, hit in KV cache: ${arena}, in DRAM: ${memory}, in files: ${file}`,
  );
}

/** Logs what became of a request whose blocks could not be loaded, in vLLM's words. */
export function logLoadFailure(requestId: string, { numTokens, isFatal }: LoadFailure): void {
  if (isFatal) {
    log.error(
      `Failing 1 request(s) due to KV load failure (failure_policy=fail, ${numTokens} tokens affected). Request IDs: ${requestId}`,
    );
  } else {
    log.warning(
      `Recovered from KV load failure: 1 request(s) rescheduled (${numTokens} tokens affected). Request IDs: ${requestId}`,
    );
  }
}

/** What a client gets whose request failed for it. */
export function loadFailureError({ numTokens }: LoadFailure): UcmError {
  return new UcmError(
    "UCM_ERR_KV_LOAD",
    `${numTokens} tokens of the prompt could not be loaded from the KV cache store, and kv_load_failure_policy is "fail". Please retry; with "recompute" they would be computed again.`,
  );
}
