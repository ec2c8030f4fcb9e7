/** Log-probabilities of one token and its rivals, by id. */
export interface TokenScores {
  /** The token itself first, then the likeliest ones, which may name it again. */
  tokenIds: readonly number[];
  logprobs: readonly number[];
  /** Rank of the token itself, 1 is the likeliest. */
  rank: number;
}

/** How a token id is written where a response names a token. */
export type TokenText = (tokenId: number) => string;

/** JSON has no -Infinity; vLLM writes this. */
const LOWEST_LOGPROB = -9999;

/** `choices[].logprobs` of /v1/completions. */
export interface CompletionLogprobs {
  /** Characters before each token, counted in the tokens' own texts. */
  text_offset: number[];
  token_logprobs: (number | null)[];
  tokens: string[];
  top_logprobs: (Record<string, number> | null)[];
}

/**
 * Logprobs of consecutive tokens in the shape of /v1/completions.
 *
 * @param scores one per token; null where there is none, as for the first token of a prompt.
 * @param firstOffset text offset of the first token.
 */
export function completionLogprobs(
  tokenIds: readonly number[],
  scores: readonly (TokenScores | null)[],
  tokenText: TokenText,
  firstOffset: number,
): CompletionLogprobs {
  const shaped: CompletionLogprobs = {
    text_offset: [],
    token_logprobs: [],
    tokens: [],
    top_logprobs: [],
  };
  let offset = firstOffset;
  tokenIds.forEach((tokenId, position) => {
    const score = scores[position] ?? null;
    const text = tokenText(tokenId);
    shaped.text_offset.push(offset);
    shaped.tokens.push(text);
    shaped.token_logprobs.push(score === null ? null : finite(score.logprobs[0]));
    shaped.top_logprobs.push(score === null ? null : textsToLogprobs(score, tokenText));
    offset += text.length;
  });
  return shaped;
}

/** The token itself, then its rivals; of two tokens with one text the earlier keeps its number. */
function textsToLogprobs(score: TokenScores, tokenText: TokenText): Record<string, number> {
  const shaped = new Map<string, number>();
  score.tokenIds.forEach((tokenId, place) => {
    const text = tokenText(tokenId);
    if (!shaped.has(text)) shaped.set(text, finite(score.logprobs[place]));
  });
  return Object.fromEntries(shaped);
}

interface ChatTokenLogprob {
  token: string;
  logprob: number;
  /** UTF-8 bytes of the token's text. */
  bytes: number[];
}

/** `choices[].logprobs` of /v1/chat/completions. */
export interface ChatLogprobs {
  content: (ChatTokenLogprob & { top_logprobs: ChatTokenLogprob[] })[];
}

/** Logprobs in the shape of chat; `top_logprobs` holds the likeliest tokens, best first. */
export function chatLogprobs(
  tokenIds: readonly number[],
  scores: readonly TokenScores[],
  tokenText: TokenText,
): ChatLogprobs {
  const entry = (tokenId: number, logprob: number | undefined): ChatTokenLogprob => {
    const token = tokenText(tokenId);
    return { token, logprob: finite(logprob), bytes: [...Buffer.from(token, "utf8")] };
  };
  const content = tokenIds.map((tokenId, position) => {
    const score = scores[position];
    const rivals = score?.tokenIds.slice(1) ?? [];
    return {
      ...entry(tokenId, score?.logprobs[0]),
      top_logprobs: rivals.map((rival, place) => entry(rival, score?.logprobs[place + 1])),
    };
  });
  return { content };
}

/** `prompt_logprobs` of vLLM: per token `{id: {logprob, rank, decoded_token}}`, null for the first. */
export type PromptLogprobsShape = (Record<
  string,
  { logprob: number; rank: number; decoded_token: string }
> | null)[];

export function promptLogprobs(
  scores: readonly (TokenScores | null)[],
  tokenText: TokenText,
): PromptLogprobsShape {
  return scores.map((score) => {
    if (score === null) return null;
    const entries = score.tokenIds.map((tokenId, place) => {
      const rank = place === 0 ? score.rank : place;
      const logprob = finite(score.logprobs[place]);
      return [String(tokenId), { logprob, rank, decoded_token: tokenText(tokenId) }] as const;
    });
    return Object.fromEntries(entries);
  });
}

function finite(logprob: number | undefined): number {
  return logprob === undefined || Number.isNaN(logprob)
    ? LOWEST_LOGPROB
    : Math.max(logprob, LOWEST_LOGPROB);
}
