import { z } from "zod";
import { int, lax, Mismatch, readTokenIds } from "./fields.js";
import { checkDelivery, invalidRequest, refuseUnsupported } from "./request-rules.js";
import {
  deliveryFields,
  pickSamplingFields,
  requestLimits,
  type SamplingFields,
  samplingFields,
} from "./sampling-fields.js";
import { grammarFields, readGrammar } from "./structured-outputs.js";
import { parseBody } from "./validation-error.js";

/** A prompt as given: text still to be tokenized, or token ids to be used as they are. */
export type PromptInput = string | number[];

const promptForms =
  "Input should be a string, a list of strings, a list of token ids or a list of lists of token ids";

const prompts = lax((value): PromptInput[] | Mismatch => {
  if (typeof value === "string") return [value];
  if (!Array.isArray(value)) return new Mismatch("prompt_type", promptForms);
  if (typeof value[0] === "number") return wrap(readTokenIds(value));
  if (value.length > requestLimits.prompts) {
    return new Mismatch(
      "too_long",
      `List should have at most ${requestLimits.prompts} prompts, not ${value.length}`,
    );
  }
  if (value.every((item) => typeof item === "string")) return value;
  if (!value.every((item) => Array.isArray(item))) return new Mismatch("prompt_type", promptForms);
  for (const item of value) {
    const ids = readTokenIds(item);
    if (ids instanceof Mismatch) return ids;
  }
  return value;
});

function wrap(ids: number[] | Mismatch): PromptInput[] | Mismatch {
  return ids instanceof Mismatch ? ids : [ids];
}

export const completionSchema = z.object({
  ...samplingFields,
  ...deliveryFields,
  ...grammarFields,
  prompt: prompts.nullish(),
  logprobs: int().nullish(),
});

/** A body of POST /v1/completions that may be run. */
export interface CompletionRequest extends Omit<z.output<typeof completionSchema>, "prompt"> {
  /** At least one, none of them empty. */
  prompts: PromptInput[];
  /** What the engine is to decode by; max_tokens is at least 1 here. */
  sampling: SamplingFields;
  /** `max_tokens: 0` with echo: score the prompt, return no generated token. */
  echoOnly: boolean;
}

/**
 * Reads a body of POST /v1/completions. UCM_ERR_INVALID_BODY when its shape is wrong,
 * UCM_ERR_INVALID_REQUEST when it asks for what cannot be.
 */
export function parseCompletionRequest(raw: unknown): CompletionRequest {
  const { prompt, ...body } = parseBody(completionSchema, raw);
  refuseUnsupported("completion", raw as Record<string, unknown>);
  checkDelivery(body);
  if (prompt === undefined || prompt === null || prompt.some((one) => one.length === 0)) {
    throw invalidRequest(
      "Either prompt or prompt_embeds must be provided and non-empty.",
      "prompt",
    );
  }
  if (typeof body.logprobs === "number" && body.logprobs < 0) {
    throw invalidRequest("`logprobs` must be a positive value.", "logprobs");
  }
  if (prompt.length === 0) throw invalidRequest("please provide at least one prompt", "prompt");
  const sequences = prompt.length * (body.n ?? 1);
  if (sequences > requestLimits.sequences) {
    throw invalidRequest(
      `prompts times n must be at most ${requestLimits.sequences}, got ${sequences}.`,
      "n",
    );
  }
  const echoOnly = body.echo === true && body.max_tokens === 0;
  const sampling = pickSamplingFields(body);
  if (body.echo && typeof body.logprobs === "number") {
    sampling.prompt_logprobs ??= body.logprobs;
  }
  const spec = readGrammar(body);
  if (spec !== null) sampling.grammar = { spec, afterTokenId: null };
  if (echoOnly) {
    sampling.max_tokens = 1;
    sampling.min_tokens = 0;
  }
  return { ...body, prompts: prompt, sampling, echoOnly };
}
