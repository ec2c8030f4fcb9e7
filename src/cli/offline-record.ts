import type { FinishReason, RequestTimes, TokenLogprobs } from "../engine/index.js";
import type { UcmError } from "../errors/index.js";
import type { Tokenizer } from "../tokenizer/index.js";
import type { OfflineRequest } from "./offline-request.js";

/** What one sequence came to. */
export interface SequenceResult {
  text: string;
  tokenIds: number[];
  logprobs: TokenLogprobs[] | null;
  finishReason: FinishReason | null;
  stopReason: string | number | null;
}

/** What one prompt came to; sequences hold what there was when an error ended it. */
export interface PromptResult {
  request: OfflineRequest;
  sequences: SequenceResult[];
  promptLogprobs: (TokenLogprobs | null)[] | null;
  numCachedTokens: number;
  times: RequestTimes | null;
  error: UcmError | null;
}

/** Milliseconds of a prompt: to the first token, per further token, to the last. */
export interface PromptMetrics {
  ttft_ms: number | null;
  tpot_ms: number | null;
  e2e_ms: number | null;
}

export function metricsOf({ times, sequences }: PromptResult): PromptMetrics {
  if (times === null) return { ttft_ms: null, tpot_ms: null, e2e_ms: null };
  const longest = Math.max(...sequences.map(({ tokenIds }) => tokenIds.length));
  const decodeMs = times.lastTokenMs - times.firstTokenMs;
  return {
    ttft_ms: round(times.firstTokenMs - times.arrivalMs),
    tpot_ms: longest > 1 ? round(decodeMs / (longest - 1)) : null,
    e2e_ms: round(times.lastTokenMs - times.arrivalMs),
  };
}

/**
 * The line that --output-file gets for a prompt. With n > 1, `outputs` holds all sequences and the
 * fields of the record are those of the first. A failed prompt has an `error` with code and message.
 */
export function toRecord(result: PromptResult, tokenizer: Tokenizer | null) {
  const { request, sequences, promptLogprobs, numCachedTokens, error } = result;
  const shapes = sequences.map((sequence) => shapeSequence(sequence, tokenizer));
  const completionTokens = sequences.reduce((sum, { tokenIds }) => sum + tokenIds.length, 0);
  return {
    index: request.index,
    prompt: request.prompt,
    prompt_token_ids: request.request.promptTokenIds,
    ...shapes[0],
    ...(promptLogprobs === null
      ? {}
      : { prompt_logprobs: promptLogprobs.map((entry) => shapeLogprobs(entry, tokenizer)) }),
    usage: {
      prompt_tokens: request.request.promptTokenIds.length,
      completion_tokens: completionTokens,
      cached_tokens: numCachedTokens,
    },
    metrics: metricsOf(result),
    ...(shapes.length > 1 ? { outputs: shapes.map((shape, index) => ({ index, ...shape })) } : {}),
    ...(error === null ? {} : { error: { code: error.code, message: error.message } }),
  };
}

function shapeSequence(sequence: SequenceResult, tokenizer: Tokenizer | null) {
  return {
    text: sequence.text,
    token_ids: sequence.tokenIds,
    ...(sequence.logprobs === null
      ? {}
      : { logprobs: sequence.logprobs.map((entry) => shapeLogprobs(entry, tokenizer)) }),
    finish_reason: sequence.finishReason,
    stop_reason: sequence.stopReason,
  };
}

/** A token with its score and rank, and its rivals, likeliest first. */
function shapeLogprobs(entry: TokenLogprobs | null, tokenizer: Tokenizer | null) {
  if (entry === null) return null;
  const [own, ...top] = entry.tokenIds.map((tokenId, position) => ({
    token_id: tokenId,
    token: tokenizer?.idToToken(tokenId) ?? null,
    logprob: entry.logprobs[position]!,
  }));
  return { ...own, rank: entry.rank, top_logprobs: top };
}

function round(ms: number): number {
  return Math.round(ms * 1000) / 1000;
}
