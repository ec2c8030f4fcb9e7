import type { EngineConfig } from "../config/engine-config.js";
import { UcmError } from "../errors/index.js";
import type { SamplingParams } from "../messages/index.js";

/** Sequences of one request at most (vLLM: VLLM_MAX_N_SEQUENCES). */
const MAX_N = 16384;

/** What the checks need to know of the model. */
export type SamplingContext = Pick<
  EngineConfig["model"],
  "defaultSampling" | "eosTokenIds" | "maxLogprobs" | "maxModelLen" | "vocabSize"
>;

/**
 * Checks values and limits, in vLLM's order and words.
 * @throws UcmError UCM_ERR_INVALID_REQUEST with the field as `param`.
 */
export function checkSamplingParams(params: SamplingParams, model: SamplingContext): void {
  for (const rule of numberRules) checkNumber(rule, params);
  if (params.stop.includes("")) throw invalidField("stop cannot contain an empty string.", "stop");
  if (params.temperature === 0 && params.n > 1) {
    throw invalidField(`n must be 1 when using greedy sampling, got ${params.n}.`, "n");
  }
  checkLogprobCount("sample", "logprobs", params.logprobs, model);
  checkLogprobCount("prompt", "prompt_logprobs", params.promptLogprobs, model);
  if (!params.stopTokenIds.every(Number.isInteger)) {
    throw invalidField("stop_token_ids must contain only integers.", "stop_token_ids");
  }
  const allowed = params.allowedTokenIds;
  if (allowed?.length === 0) {
    throw invalidField("allowed_token_ids is not None and empty!", "allowed_token_ids");
  }
  if (allowed?.some((id) => !isTokenId(id, model))) {
    throw invalidField("allowed_token_ids contains out-of-vocab token id!", "allowed_token_ids");
  }
}

type NumberKey = {
  [K in keyof SamplingParams]: SamplingParams[K] extends number | null ? K : never;
}[keyof SamplingParams];

interface NumberRule {
  field: string;
  key: NumberKey;
  isInteger: boolean;
  valid(value: number, params: SamplingParams): boolean;
  expected(params: SamplingParams): string;
  /** vLLM appends "(parameter=…, value=…)" to some of its texts. */
  isTagged: boolean;
}

/** In vLLM's order. Comparisons are written so that NaN fails them. */
const numberRules: readonly NumberRule[] = [
  int("n", "n", (v) => v >= 1, "at least 1"),
  int("n", "n", (v) => v <= MAX_N, `at most ${MAX_N}`),
  float("presence_penalty", "presencePenalty", (v) => v >= -2 && v <= 2, "in [-2, 2]"),
  float("frequency_penalty", "frequencyPenalty", (v) => v >= -2 && v <= 2, "in [-2, 2]"),
  float("repetition_penalty", "repetitionPenalty", isPositive, "greater than zero"),
  tagged(float("temperature", "temperature", (v) => v === 0 || isPositive(v), "non-negative")),
  tagged(float("top_p", "topP", (v) => v > 0 && v <= 1, "in (0, 1]")),
  int("top_k", "topK", (v) => v >= -1, "0 (disable), or at least 1"),
  float("min_p", "minP", (v) => v >= 0 && v <= 1, "in [0, 1]"),
  tagged(int("max_tokens", "maxTokens", (v) => v >= 1, "at least 1")),
  int("min_tokens", "minTokens", (v) => v >= 0, "greater than or equal to 0"),
  {
    ...int("min_tokens", "minTokens", (v, { maxTokens }) => v <= maxTokens, ""),
    expected: ({ maxTokens }) => `less than or equal to max_tokens=${maxTokens}`,
  },
  tagged(int("logprobs", "logprobs", (v) => v >= -1, "non-negative or -1")),
  tagged(int("prompt_logprobs", "promptLogprobs", (v) => v >= -1, "non-negative or -1")),
  int("seed", "seed", () => true, "an integer"),
];

function int(
  field: string,
  key: NumberKey,
  valid: NumberRule["valid"],
  expected: string,
): NumberRule {
  return { field, key, isInteger: true, valid, expected: () => expected, isTagged: false };
}

function float(
  field: string,
  key: NumberKey,
  valid: NumberRule["valid"],
  expected: string,
): NumberRule {
  return { ...int(field, key, valid, expected), isInteger: false };
}

function tagged(rule: NumberRule): NumberRule {
  return { ...rule, isTagged: true };
}

function isPositive(value: number): boolean {
  return value > 0 && value < Infinity;
}

function checkNumber(rule: NumberRule, params: SamplingParams): void {
  const { field, isInteger, isTagged } = rule;
  const value = params[rule.key];
  if (value === null) return;
  if (isInteger && !Number.isInteger(value)) {
    throw invalidField(`${field} must be an integer, got ${value}.`, field);
  }
  if (rule.valid(value, params)) return;
  const given = isInteger ? String(value) : formatFloat(value);
  const tag = isTagged ? ` (parameter=${field}, value=${given})` : "";
  throw invalidField(`${field} must be ${rule.expected(params)}, got ${given}.${tag}`, field);
}

function checkLogprobCount(
  what: "sample" | "prompt",
  field: string,
  wanted: number | null,
  { maxLogprobs, vocabSize }: SamplingContext,
): void {
  const limit = maxLogprobs === -1 ? vocabSize : maxLogprobs;
  const count = wanted === -1 ? vocabSize : (wanted ?? 0);
  if (count <= limit) return;
  throw invalidField(
    `Requested ${what} logprobs of ${count}, which is greater than max allowed: ${limit} ` +
      `(parameter=${field}, value=${count})`,
    field,
  );
}

/** Whether `id` is an id of the model's vocabulary. */
export function isTokenId(id: number, { vocabSize }: Pick<SamplingContext, "vocabSize">): boolean {
  return Number.isInteger(id) && id >= 0 && id < vocabSize;
}

export function invalidField(message: string, param: string): UcmError {
  return new UcmError("UCM_ERR_INVALID_REQUEST", message, { param });
}

/** As Python writes a float: 3 is 3.0. */
function formatFloat(value: number): string {
  return Number.isInteger(value) ? value.toFixed(1) : String(value);
}
