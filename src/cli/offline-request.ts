import type { EngineConfig } from "../config/index.js";
import { buildSamplingParams, type GenerateRequest } from "../engine/index.js";
import { checkGenerateRequest } from "../engine/validation.js";
import { toUcmError, UcmError } from "../errors/index.js";
import type { SamplingFields } from "../openai/index.js";
import type { Tokenizer } from "../tokenizer/index.js";
import { type Flags, samplingFlags } from "./flags/index.js";
import { camelCase } from "./flags/spec.js";
import type { OfflinePrompt } from "./offline-prompts.js";

/** Tokens generated when neither prompt, flag nor model says how many. */
const DEFAULT_MAX_TOKENS = 256;

/** A prompt ready to run. */
export interface OfflineRequest {
  index: number;
  /** Prompt text, null when it was given as token ids. */
  prompt: string | null;
  request: GenerateRequest;
}

export interface RequestContext {
  config: EngineConfig;
  tokenizer: Tokenizer | null;
  /** Replaces the model's chat template. */
  chatTemplate: string | null;
  /** Sampling flags, under the names of the API. */
  flagFields: SamplingFields;
}

/** The sampling flags of the command line as sampling fields; those not given left out. */
export function samplingFieldsOf(flags: Flags): SamplingFields {
  const values = flags as unknown as Record<string, unknown>;
  const given = Object.keys(samplingFlags)
    .map((name) => [name.replaceAll("-", "_"), values[camelCase(name)]] as const)
    .filter(([, value]) => value !== null);
  return Object.fromEntries(given) as SamplingFields;
}

/**
 * Encodes and checks a prompt as the server would. Errors name the prompt's origin: all prompts are
 * checked before the model is loaded.
 */
export function prepareRequest(
  prompt: OfflinePrompt,
  index: number,
  context: RequestContext,
): OfflineRequest {
  try {
    return encodeRequest(prompt, index, context);
  } catch (thrown) {
    const { code, message, param } = toUcmError(thrown);
    throw new UcmError(code, `${prompt.origin}: ${message}`, {
      cause: thrown,
      ...(param === null ? {} : { param }),
    });
  }
}

function encodeRequest(
  { source, fields, priority, cacheSalt }: OfflinePrompt,
  index: number,
  context: RequestContext,
): OfflineRequest {
  const { config, tokenizer, flagFields } = context;
  const isTokens = source.kind === "tokens";
  const text = isTokens ? null : promptText(source, context);
  const promptTokenIds =
    text === null
      ? tokensOf(source)
      : requireTokenizer(context).encode(text, { addSpecialTokens: source.kind === "text" });
  const merged: SamplingFields = { ...flagFields, ...fields };
  if (merged.max_tokens === undefined && config.model.defaultSampling.max_tokens === undefined) {
    const room = config.model.maxModelLen - promptTokenIds.length;
    merged.max_tokens = Math.max(1, Math.min(DEFAULT_MAX_TOKENS, room));
  }
  const request: GenerateRequest = {
    requestId: `offline-${index}`,
    promptTokenIds,
    sampling: buildSamplingParams(merged, config.model, promptTokenIds.length, tokenizer),
    priority,
    cacheSalt,
    detokenize: tokenizer !== null,
  };
  checkGenerateRequest(request, config, tokenizer);
  return { index, prompt: text, request };
}

function tokensOf(source: OfflinePrompt["source"]): number[] {
  return source.kind === "tokens" ? source.tokenIds : [];
}

function promptText(source: OfflinePrompt["source"], context: RequestContext): string | null {
  if (source.kind === "text") return source.text;
  if (source.kind === "tokens") return null;
  const { chatTemplate } = context;
  return requireTokenizer(context).applyChatTemplate(source.messages, {
    addGenerationPrompt: true,
    ...(chatTemplate === null ? {} : { chatTemplate }),
  });
}

function requireTokenizer({ tokenizer }: RequestContext): Tokenizer {
  if (tokenizer !== null) return tokenizer;
  throw new UcmError(
    "UCM_ERR_INVALID_REQUEST",
    "under --skip-tokenizer-init a prompt must be given as prompt_token_ids.",
  );
}
