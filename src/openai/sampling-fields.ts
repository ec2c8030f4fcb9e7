import { z } from "zod";
import type { OutputGrammar } from "../messages/index.js";
import { bool, float, int, lax, list, Mismatch, object, string, tokenIds } from "./fields.js";

/** Bounds on what one body may ask for, so that hostile sizes are refused before any work. */
export const requestLimits = {
  /** Sequences per prompt. */
  n: 1024,
  /** Sequences of all prompts together. */
  sequences: 4096,
  /** Prompts in one body. */
  prompts: 1024,
  stopStrings: 64,
  badWords: 1024,
  /** Characters of one stop string or bad word. */
  stopLength: 1024,
  /** Entries of stop_token_ids, allowed_token_ids and logit_bias: above any vocabulary. */
  tokenIds: 1 << 20,
  messages: 65_536,
} as const;

/** The range of seed, as in vLLM: int64. */
const seedBound = 2 ** 63;

const boundedString = lax((value) => {
  if (typeof value !== "string") {
    return new Mismatch("string_type", "Input should be a valid string");
  }
  if (value.length <= requestLimits.stopLength) return value;
  return new Mismatch(
    "string_too_long",
    `String should have at most ${requestLimits.stopLength} characters`,
  );
});

const stopStrings = lax((value) => (typeof value === "string" ? [value] : value)).pipe(
  list(boundedString, requestLimits.stopStrings),
);

const logitBias = lax((value) => readLogitBias(value));

function readLogitBias(value: unknown): Record<string, number> | Mismatch {
  const entries = object().safeParse(value);
  if (!entries.success) return new Mismatch("dict_type", "Input should be a valid dictionary");
  const bias: [string, number][] = [];
  for (const [key, given] of Object.entries(entries.data)) {
    const amount = float().safeParse(given);
    if (!/^\d+$/.test(key) || !amount.success) {
      return new Mismatch("logit_bias", "Input should map token ids to numbers");
    }
    bias.push([key, amount.data]);
  }
  if (bias.length <= requestLimits.tokenIds) return Object.fromEntries(bias);
  return new Mismatch(
    "too_long",
    `Dictionary should have at most ${requestLimits.tokenIds} items after validation`,
  );
}

/** Fields of both generation routes that say how to decode, under their names on the wire. */
export const samplingFields = {
  n: int({ max: requestLimits.n }).nullish(),
  temperature: float().nullish(),
  top_p: float().nullish(),
  top_k: int().nullish(),
  min_p: float().nullish(),
  presence_penalty: float().nullish(),
  frequency_penalty: float().nullish(),
  repetition_penalty: float().nullish(),
  seed: int({ min: -seedBound, max: seedBound }).nullish(),
  max_tokens: int().nullish(),
  min_tokens: int().nullish(),
  stop: stopStrings.nullish(),
  stop_token_ids: tokenIds(requestLimits.tokenIds).nullish(),
  include_stop_str_in_output: bool().nullish(),
  ignore_eos: bool().nullish(),
  prompt_logprobs: int().nullish(),
  logit_bias: logitBias.nullish(),
  allowed_token_ids: tokenIds(requestLimits.tokenIds).nullish(),
  bad_words: list(boundedString, requestLimits.badWords).nullish(),
  skip_special_tokens: bool().nullish(),
};

const streamOptions = z.object({
  include_usage: bool().nullish(),
  continuous_usage_stats: bool().nullish(),
});

/** Fields of both generation routes that say how to answer. */
export const deliveryFields = {
  model: string().nullish(),
  stream: bool().nullish(),
  stream_options: streamOptions.nullish(),
  echo: bool().nullish(),
  truncate_prompt_tokens: int({ min: -1 }).nullish(),
  add_special_tokens: bool().nullish(),
  priority: int({ min: -(2 ** 31), max: 2 ** 31 }).nullish(),
  request_id: string().nullish(),
  return_token_ids: bool().nullish(),
  return_tokens_as_token_ids: bool().nullish(),
  cache_salt: string().nullish(),
  /** Of vLLM's connectors between servers; no store of ours takes parameters from a request. */
  kv_transfer_params: object().nullish(),
  vllm_xargs: object().nullish(),
};

const samplingSchema = z.object({ ...samplingFields, logprobs: int().nullish() });

/** Sampling fields of a parsed body: what the engine makes its parameters from. */
export type SamplingFields = z.output<typeof samplingSchema> & {
  /** What the output must match. */
  grammar?: OutputGrammar | null;
};

/** The sampling fields of a body, those that are absent or null left out. */
export function pickSamplingFields(body: Readonly<Record<string, unknown>>): SamplingFields {
  const names = Object.keys(samplingSchema.shape);
  const given = names.filter((name) => body[name] !== undefined && body[name] !== null);
  return Object.fromEntries(given.map((name) => [name, body[name]])) as SamplingFields;
}
