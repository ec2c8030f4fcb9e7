import {
  defaultSamplingParams,
  type OutputGrammar,
  type SamplingParams,
} from "../messages/index.js";
import type { Tokenizer } from "../tokenizer/types.js";
import { encodeBadWords } from "./bad-words.js";
import { contextLengthError } from "./context-length.js";
import {
  checkSamplingParams,
  invalidField,
  isTokenId,
  type SamplingContext,
} from "./sampling-checks.js";

/** Temperatures between 0 and this one make logits overflow; they are raised to it. */
const MIN_TEMPERATURE = 0.01;
const MAX_LOGIT_BIAS = 100;

/** Sampling fields as the OpenAI API and vLLM name them; absent and null both mean the default. */
export interface SamplingFields {
  n?: number | null | undefined;
  temperature?: number | null | undefined;
  top_p?: number | null | undefined;
  /** 0 and -1 are off. */
  top_k?: number | null | undefined;
  min_p?: number | null | undefined;
  presence_penalty?: number | null | undefined;
  frequency_penalty?: number | null | undefined;
  repetition_penalty?: number | null | undefined;
  /** -1 is none. */
  seed?: number | null | undefined;
  /** Default: the model's max_new_tokens if it has one, else all that the context leaves. */
  max_tokens?: number | null | undefined;
  min_tokens?: number | null | undefined;
  stop?: string | readonly string[] | null | undefined;
  stop_token_ids?: readonly number[] | null | undefined;
  ignore_eos?: boolean | null | undefined;
  logprobs?: number | null | undefined;
  prompt_logprobs?: number | null | undefined;
  /** Token id (JSON objects have string keys) to bias. */
  logit_bias?: Readonly<Record<string, number>> | null | undefined;
  allowed_token_ids?: readonly number[] | null | undefined;
  bad_words?: readonly string[] | null | undefined;
  include_stop_str_in_output?: boolean | null | undefined;
  skip_special_tokens?: boolean | null | undefined;
  /** What the output must match, however the request says so. */
  grammar?: OutputGrammar | null | undefined;
}

/**
 * Fills in, checks and normalises the sampling fields of a request with a prompt of `promptLength`
 * tokens. Defaults come from the request, then the model's generation_config.json, then neutral
 * values. Checks, their order and their words are vLLM's. `tokenizer` is needed for bad_words alone.
 * @throws UcmError UCM_ERR_INVALID_REQUEST with the field as `param`, or UCM_ERR_CONTEXT_LENGTH.
 */
export function buildSamplingParams(
  fields: SamplingFields,
  model: SamplingContext,
  promptLength: number,
  tokenizer: Tokenizer | null = null,
): SamplingParams {
  const neutral = defaultSamplingParams;
  const { defaultSampling } = model;
  const pick = (name: NumberField, fallback: number) =>
    fields[name] ?? defaultSampling[name] ?? fallback;
  const params: SamplingParams = {
    n: pick("n", neutral.n),
    temperature: pick("temperature", neutral.temperature),
    topP: pick("top_p", neutral.topP),
    topK: pick("top_k", neutral.topK),
    minP: pick("min_p", neutral.minP),
    presencePenalty: pick("presence_penalty", neutral.presencePenalty),
    frequencyPenalty: pick("frequency_penalty", neutral.frequencyPenalty),
    repetitionPenalty: pick("repetition_penalty", neutral.repetitionPenalty),
    seed: fields.seed == null || fields.seed === -1 ? null : fields.seed,
    maxTokens: chooseMaxTokens(fields, model, promptLength),
    minTokens: fields.min_tokens ?? neutral.minTokens,
    stop: typeof fields.stop === "string" ? [fields.stop] : [...(fields.stop ?? [])],
    stopTokenIds: [...(fields.stop_token_ids ?? [])],
    eosTokenIds: [...model.eosTokenIds],
    includeStopStrInOutput: fields.include_stop_str_in_output ?? neutral.includeStopStrInOutput,
    ignoreEos: fields.ignore_eos ?? neutral.ignoreEos,
    logprobs: fields.logprobs ?? null,
    promptLogprobs: fields.prompt_logprobs ?? null,
    logitBias: fields.logit_bias == null ? null : parseLogitBias(fields.logit_bias, model),
    allowedTokenIds: fields.allowed_token_ids == null ? null : [...fields.allowed_token_ids],
    badWordIds: encodeBadWords(fields.bad_words ?? [], model, tokenizer),
    skipSpecialTokens: fields.skip_special_tokens ?? neutral.skipSpecialTokens,
    grammar: fields.grammar ?? null,
  };
  checkSamplingParams(params, model);
  if (promptLength + params.maxTokens > model.maxModelLen) {
    throw contextLengthError(model.maxModelLen, params.maxTokens, promptLength);
  }
  return normalizeTemperature(params);
}

type NumberField = {
  [K in keyof SamplingFields]-?: SamplingFields[K] extends number | null | undefined ? K : never;
}[keyof SamplingFields];

/** What the request asks for, else the model's default cut to the room left, else all the room. */
function chooseMaxTokens(
  fields: SamplingFields,
  model: SamplingContext,
  promptLength: number,
): number {
  if (fields.max_tokens != null) return fields.max_tokens;
  const room = model.maxModelLen - promptLength;
  // A prompt that leaves no room at all is refused as one that asks for a single token.
  return Math.max(1, Math.min(room, model.defaultSampling.max_tokens ?? room));
}

function parseLogitBias(
  fields: Readonly<Record<string, number>>,
  model: SamplingContext,
): Record<number, number> {
  const biases: Record<number, number> = {};
  const unknown: number[] = [];
  for (const [key, bias] of Object.entries(fields)) {
    if (!/^\s*[+-]?\d+\s*$/.test(key)) {
      throw invalidField(
        `Found token_id \`${key}\` in logit_bias but token_id must be an integer or string ` +
          "representing an integer",
        "logit_bias",
      );
    }
    if (typeof bias !== "number" || Number.isNaN(bias)) {
      throw invalidField(`logit_bias of token ${key} must be a number, got ${bias}.`, "logit_bias");
    }
    const tokenId = Number(key);
    if (!isTokenId(tokenId, model)) unknown.push(tokenId);
    biases[tokenId] = Math.min(MAX_LOGIT_BIAS, Math.max(-MAX_LOGIT_BIAS, bias));
  }
  if (unknown.length === 0) return biases;
  throw invalidField(
    `token_id(s) [${unknown.join(", ")}] in logit_bias contain out-of-vocab token ids. ` +
      `Vocabulary size: ${model.vocabSize}`,
    "logit_bias",
  );
}

function normalizeTemperature(params: SamplingParams): SamplingParams {
  if (params.temperature === 0) return { ...params, topP: 1, topK: 0, minP: 0 };
  return {
    ...params,
    temperature: Math.max(params.temperature, MIN_TEMPERATURE),
    topK: Math.max(params.topK, 0),
  };
}
