import type { OutputGrammar } from "./grammar-spec.js";

/**
 * How one request is to be decoded, with every default filled in. Meaning and order of application
 * are vLLM V1's: grammar mask, raw logprobs, allowed_token_ids, bad_words, min_tokens, logit_bias, penalties, greedy or
 * temperature, min_p, top_k, top_p, draw.
 */
export interface SamplingParams {
  /** Sequences to generate for the prompt, at least 1. */
  n: number;
  /** 0 is greedy. */
  temperature: number;
  /** In (0, 1]; 1 is off. */
  topP: number;
  /** 0 is off. */
  topK: number;
  /** In [0, 1]; 0 is off. */
  minP: number;
  presencePenalty: number;
  frequencyPenalty: number;
  /** Greater than 0; 1 is off. */
  repetitionPenalty: number;
  /** Sequence i of n draws from seed + i. Null draws from the engine's generator. */
  seed: number | null;
  /** At least 1, already cut to what the context leaves. */
  maxTokens: number;
  minTokens: number;
  /** Strings that end the text; matched by the detokenizer, never sent to a worker. */
  stop: string[];
  /** Tokens that end the sequence beside EOS; reported as stop_reason. */
  stopTokenIds: number[];
  /** The tokenizer's or model's EOS; ends the sequence unless ignoreEos. */
  eosTokenIds: number[];
  includeStopStrInOutput: boolean;
  ignoreEos: boolean;
  /** Top log-probabilities wanted per generated token; null for none, -1 for the vocabulary. */
  logprobs: number | null;
  /** The same for prompt tokens. */
  promptLogprobs: number | null;
  /** Token id to bias, clamped to [-100, 100]. */
  logitBias: Record<number, number> | null;
  allowedTokenIds: number[] | null;
  /** Token sequences that the output must not hold: the last token of one is forbidden after the others. */
  badWordIds: number[][];
  skipSpecialTokens: boolean;
  /** What the output must match; workers see it as a mask per token. */
  grammar: OutputGrammar | null;
}

/** Neutral values: greedy is not the default, temperature 1 is (as in the OpenAI API). */
export const defaultSamplingParams: Readonly<SamplingParams> = Object.freeze({
  n: 1,
  temperature: 1,
  topP: 1,
  topK: 0,
  minP: 0,
  presencePenalty: 0,
  frequencyPenalty: 0,
  repetitionPenalty: 1,
  seed: null,
  maxTokens: 16,
  minTokens: 0,
  stop: [],
  stopTokenIds: [],
  eosTokenIds: [],
  includeStopStrInOutput: false,
  ignoreEos: false,
  logprobs: null,
  promptLogprobs: null,
  logitBias: null,
  allowedTokenIds: null,
  badWordIds: [],
  skipSpecialTokens: true,
  grammar: null,
});
