/** Token counts of a request: prompts once each, every sequence generated. */
export interface TokenCounts {
  promptTokens: number;
  completionTokens: number;
  /** Prompt tokens whose KV was found rather than computed. */
  cachedTokens: number;
}

export interface Usage {
  prompt_tokens: number;
  total_tokens: number;
  completion_tokens: number;
  prompt_tokens_details: { cached_tokens: number };
}

/** `usage` of a response; cached tokens are told even when there are none. */
export function shapeUsage(counts: TokenCounts): Usage {
  const { promptTokens, completionTokens, cachedTokens } = counts;
  return {
    prompt_tokens: promptTokens,
    total_tokens: promptTokens + completionTokens,
    completion_tokens: completionTokens,
    prompt_tokens_details: { cached_tokens: cachedTokens },
  };
}
