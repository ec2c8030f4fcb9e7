import { UcmError } from "../errors/index.js";
import type { SequenceInput } from "./sequence.js";
import type { SchedulerConfig } from "./types.js";

/**
 * @throws UcmError UCM_ERR_CONFIG when, without chunked prefill, a sequence within maxModelLen could
 * be too long for any step.
 */
export function checkConfig(config: SchedulerConfig): void {
  const { enableChunkedPrefill, maxNumBatchedTokens, maxModelLen } = config;
  if (enableChunkedPrefill || maxNumBatchedTokens >= maxModelLen) return;
  throw new UcmError(
    "UCM_ERR_CONFIG",
    `max_num_batched_tokens (${maxNumBatchedTokens}) is smaller than max_model_len (${maxModelLen}). ` +
      "Without chunked prefill a longer prompt could never run. Please increase " +
      "max_num_batched_tokens, decrease max_model_len, or enable chunked prefill.",
  );
}

/** @throws UcmError UCM_ERR_CONTEXT_LENGTH for a sequence that could never run to its end. */
export function checkFits(
  { promptTokenIds, sampling, seqId }: SequenceInput,
  { numBlocks, blockSize, maxModelLen }: SchedulerConfig,
): void {
  if (promptTokenIds.length === 0) {
    throw new UcmError("UCM_ERR_INTERNAL", `Sequence ${seqId} has no prompt token.`);
  }
  // The last token is sampled, never computed: it needs no place in the cache.
  const longest = Math.min(maxModelLen, numBlocks * blockSize + 1);
  const total = promptTokenIds.length + sampling.maxTokens;
  if (total <= longest) return;
  throw new UcmError(
    "UCM_ERR_CONTEXT_LENGTH",
    `The request asks for ${total} tokens (${promptTokenIds.length} of prompt, ${sampling.maxTokens} of ` +
      `output), and the longest that fits is ${longest} tokens: the KV cache has ${numBlocks} blocks of ` +
      `${blockSize} tokens and max_model_len is ${maxModelLen}. Please shorten the prompt, lower ` +
      "max_tokens, or start the server with a larger KV cache.",
    { param: "max_tokens" },
  );
}
