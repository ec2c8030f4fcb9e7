import type { Sequence } from "./sequence.js";

/** Why a sequence ended, as far as token ids can tell. */
export interface SequenceFinish {
  reason: "stop" | "length";
  /** The stop token id that matched; null for EOS and length. */
  stopReason: number | null;
}

/**
 * Whether the newest output token ends its sequence. The order is vLLM V1's: min_tokens holds back
 * everything, then EOS, stop tokens, length.
 */
export function checkStop(sequence: Sequence, maxModelLen: number): SequenceFinish | null {
  const { sampling, outputTokenIds } = sequence;
  if (outputTokenIds.length < sampling.minTokens) return null;
  const tokenId = outputTokenIds.at(-1)!;
  if (!sampling.ignoreEos && sampling.eosTokenIds.includes(tokenId)) {
    return { reason: "stop", stopReason: null };
  }
  if (sampling.stopTokenIds.includes(tokenId)) return { reason: "stop", stopReason: tokenId };
  if (sequence.numTokens >= maxModelLen || outputTokenIds.length >= sampling.maxTokens) {
    return { reason: "length", stopReason: null };
  }
  return null;
}
