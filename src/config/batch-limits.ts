import { UcmError } from "../errors/index.js";

/** vLLM's defaults for servers on small devices. */
const DEFAULT_MAX_NUM_SEQS = 256;
const DEFAULT_MAX_NUM_BATCHED_TOKENS = 2048;

export interface BatchLimits {
  maxNumSeqs: number;
  maxNumBatchedTokens: number;
  enableChunkedPrefill: boolean;
}

/**
 * Limits of one step. Defaults bend to what was given; what was given is refused when it cannot
 * work: fewer tokens than sequences, or whole prompts that do not fit a step.
 */
export function resolveBatchLimits(
  options: {
    maxNumSeqs: number | null;
    maxNumBatchedTokens: number | null;
    enableChunkedPrefill: boolean | null;
  },
  maxModelLen: number,
): BatchLimits {
  const enableChunkedPrefill = options.enableChunkedPrefill ?? true;
  const wantedSeqs = options.maxNumSeqs ?? DEFAULT_MAX_NUM_SEQS;
  const wantedTokens = enableChunkedPrefill
    ? Math.max(DEFAULT_MAX_NUM_BATCHED_TOKENS, options.maxNumSeqs ?? 0)
    : Math.max(DEFAULT_MAX_NUM_BATCHED_TOKENS, maxModelLen);
  const maxNumBatchedTokens =
    options.maxNumBatchedTokens ?? Math.min(wantedTokens, wantedSeqs * maxModelLen);
  const maxNumSeqs = options.maxNumSeqs ?? Math.min(wantedSeqs, maxNumBatchedTokens);
  if (maxNumBatchedTokens < maxNumSeqs) {
    throw new UcmError(
      "UCM_ERR_CONFIG",
      `max_num_batched_tokens (${maxNumBatchedTokens}) must be greater than or equal to max_num_seqs (${maxNumSeqs}).`,
    );
  }
  if (!enableChunkedPrefill && maxNumBatchedTokens < maxModelLen) {
    throw new UcmError(
      "UCM_ERR_CONFIG",
      `max_num_batched_tokens (${maxNumBatchedTokens}) is smaller than max_model_len (${maxModelLen}). Without chunked prefill a prompt is computed in one step: please increase max_num_batched_tokens or decrease max_model_len.`,
    );
  }
  return { maxNumSeqs, maxNumBatchedTokens, enableChunkedPrefill };
}
