import { UcmError } from "../errors/index.js";

/**
 * The refusal of a request that exceeds the context, in vLLM's words: clients match on
 * "maximum context length is N tokens".
 */
export function contextLengthError(
  maxModelLen: number,
  maxTokens: number,
  promptLength: number,
): UcmError {
  return new UcmError(
    "UCM_ERR_CONTEXT_LENGTH",
    `This model's maximum context length is ${maxModelLen} tokens. However, you requested ` +
      `${maxTokens} output tokens and your prompt contains at least ${promptLength} input tokens, for a ` +
      `total of at least ${promptLength + maxTokens} tokens. Please reduce the length of the input prompt ` +
      `or the number of requested output tokens. (parameter=input_tokens, value=${promptLength})`,
    { param: "input_tokens" },
  );
}
