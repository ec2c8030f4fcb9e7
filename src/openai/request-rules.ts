import { UcmError } from "../errors/index.js";

/** A request that is well formed but asks for what cannot be. */
export function invalidRequest(message: string, param: string): UcmError {
  return new UcmError("UCM_ERR_INVALID_REQUEST", message, { param });
}

/** Says why a value of a field cannot be honoured, null when it can. */
type Refusal = (value: unknown, body: Readonly<Record<string, unknown>>) => string | null;

const always =
  (message: string): Refusal =>
  () =>
    message;

const unlessEmpty =
  (message: string): Refusal =>
  (value) =>
    (Array.isArray(value) && value.length === 0) || value === false ? null : message;

/** Fields whose silent dropping would change the answer. Null always means absent. */
const commonRefusals: Record<string, Refusal> = {
  best_of: (value, body) =>
    Number(value) > Number(body.n ?? 1) ? "best_of greater than n is not supported" : null,
  use_beam_search: unlessEmpty("use_beam_search is not supported"),
  logits_processors: unlessEmpty("logits_processors is not supported"),
  repetition_detection: always("repetition_detection is not supported"),
  logprob_token_ids: unlessEmpty("logprob_token_ids is not supported: ask for more logprobs"),
  thinking_token_budget: always("thinking_token_budget is not supported: use max_tokens"),
  truncation_side: (side) =>
    side === "left" ? null : 'truncation_side must be "left": the last tokens of a prompt are kept',
};

const completionRefusals: Record<string, Refusal> = {
  ...commonRefusals,
  suffix: always("suffix is not currently supported"),
  prompt_embeds: always("prompt_embeds is not supported: give the prompt as text or as token ids"),
};

const noFunctions = "functions are not supported: use tools and tool_choice";

const chatRefusals: Record<string, Refusal> = {
  ...commonRefusals,
  functions: unlessEmpty(noFunctions),
  function_call: (value) => (value === "none" ? null : noFunctions),
};

const refusals = { completion: completionRefusals, chat: chatRefusals } as const;

/** Names of the fields that may be refused. */
export function refusedFields(kind: keyof typeof refusals): readonly string[] {
  return Object.keys(refusals[kind]);
}

/** Refuses fields that vLLM honours and this server cannot; UCM_ERR_INVALID_REQUEST. */
export function refuseUnsupported(
  kind: keyof typeof refusals,
  body: Readonly<Record<string, unknown>>,
): void {
  for (const [field, refusal] of Object.entries(refusals[kind])) {
    const value = body[field];
    if (value === undefined || value === null) continue;
    const message = refusal(value, body);
    if (message !== null) throw invalidRequest(message, field);
  }
}

interface DeliveryRequest {
  stream?: boolean | null | undefined;
  stream_options?: unknown;
  prompt_logprobs?: number | null | undefined;
  cache_salt?: string | null | undefined;
}

/** Rules between fields that both generation routes share, in vLLM's words. */
export function checkDelivery(body: DeliveryRequest): void {
  const { stream, stream_options, prompt_logprobs, cache_salt } = body;
  if (stream_options && !stream) {
    throw invalidRequest(
      "Stream options can only be defined when `stream=True`.",
      "stream_options",
    );
  }
  if (typeof prompt_logprobs === "number") {
    if (stream && prompt_logprobs !== 0) {
      throw invalidRequest(
        "`prompt_logprobs` are not available when `stream=True`.",
        "prompt_logprobs",
      );
    }
    if (prompt_logprobs < -1) {
      throw invalidRequest("`prompt_logprobs` must be a positive value or -1.", "prompt_logprobs");
    }
  }
  if (cache_salt === "") {
    throw invalidRequest(
      "Parameter 'cache_salt' must be a non-empty string if provided.",
      "cache_salt",
    );
  }
}
