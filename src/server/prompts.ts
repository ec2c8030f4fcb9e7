import { setImmediate as nextTurn } from "node:timers/promises";
import { UcmError } from "../errors/index.js";
import { invalidRequest, type PromptInput, type TemplateRequest } from "../openai/index.js";
import type { ChatTemplateOptions, Tokenizer } from "../tokenizer/types.js";
import type { RouteContext } from "./context.js";

/** A prompt ready for the engine. */
export interface EncodedPrompt {
  tokenIds: number[];
  /** The text it was made of, where that is the whole of it; null for token ids and cut prompts. */
  text: string | null;
}

export interface EncodeOptions {
  addSpecialTokens: boolean;
  /** Keep this many of the last tokens, -1 as many as fit the context; null keeps all. */
  truncateTokens: number | null;
  /** Tokens that the context must keep free for the output. */
  maxOutputTokens: number;
}

/** The tokenizer, or a refusal that says how to do without. */
export function requireTokenizer(context: RouteContext): Tokenizer {
  if (context.tokenizer !== null) return context.tokenizer;
  throw invalidRequest(
    "This server runs with --skip-tokenizer-init and has no tokenizer. " +
      "Give the prompt to /v1/completions as token ids.",
    "prompt",
  );
}

/** Tokenizes the prompts of one body, other requests having their turn between two of them. */
export async function encodePrompts(
  context: RouteContext,
  inputs: readonly PromptInput[],
  options: EncodeOptions,
): Promise<EncodedPrompt[]> {
  const encoded: EncodedPrompt[] = [];
  for (const input of inputs) {
    if (encoded.length > 0 && typeof input === "string") await nextTurn();
    encoded.push(encodePrompt(context, input, options));
  }
  return encoded;
}

function encodePrompt(
  context: RouteContext,
  input: PromptInput,
  options: EncodeOptions,
): EncodedPrompt {
  const isText = typeof input === "string";
  const tokenIds = isText ? encodeText(context, input, options) : input;
  const kept = truncate(tokenIds, options, context.model.maxModelLen);
  if (kept.length === 0) throw invalidRequest("The decoder prompt cannot be empty", "prompt");
  return { tokenIds: kept, text: isText && kept === tokenIds ? input : null };
}

function encodeText(context: RouteContext, text: string, options: EncodeOptions): number[] {
  const tokenizer = requireTokenizer(context);
  if (options.truncateTokens === null) refuseHugeText(context, tokenizer, text, options);
  return tokenizer.encode(text, { addSpecialTokens: options.addSpecialTokens });
}

/** The last tokens, which is what tokenizers that truncate on the left keep. */
function truncate(tokenIds: number[], options: EncodeOptions, maxModelLen: number): number[] {
  const { truncateTokens, maxOutputTokens } = options;
  if (truncateTokens === null) return tokenIds;
  if (truncateTokens > maxModelLen) {
    throw invalidRequest(
      `truncate_prompt_tokens value (${truncateTokens}) is greater than max_model_len ` +
        `(${maxModelLen}). Please, select a smaller truncation size.`,
      "truncate_prompt_tokens",
    );
  }
  const limit = truncateTokens === -1 ? Math.max(1, maxModelLen - maxOutputTokens) : truncateTokens;
  return tokenIds.length <= limit ? tokenIds : tokenIds.slice(tokenIds.length - limit);
}

const longestTokens = new WeakMap<Tokenizer, number>();

/** Refuses, before the work of tokenizing, text that is too long however it is cut into tokens. */
function refuseHugeText(
  { model }: RouteContext,
  tokenizer: Tokenizer,
  text: string,
  { maxOutputTokens }: EncodeOptions,
): void {
  const maxInputTokens = Math.max(0, model.maxModelLen - maxOutputTokens);
  // No tokenizer has tokens of fewer characters than these: spare the search in the common case.
  if (text.length <= maxInputTokens) return;
  const maxCharacters = maxInputTokens * longestToken(tokenizer);
  if (text.length <= maxCharacters) return;
  throw new UcmError(
    "UCM_ERR_CONTEXT_LENGTH",
    `This model's maximum context length is ${model.maxModelLen} tokens. However, you requested ` +
      `${maxOutputTokens} output tokens and your prompt contains ${text.length} characters (more ` +
      `than ${maxCharacters} characters, which is the upper bound for ${maxInputTokens} input ` +
      "tokens). Please reduce the length of the input prompt or the number of requested output " +
      `tokens. (parameter=input_text, value=${text.length})`,
    { param: "input_text" },
  );
}

/** Characters of the longest token, as written in the vocabulary. */
function longestToken(tokenizer: Tokenizer): number {
  const known = longestTokens.get(tokenizer);
  if (known !== undefined) return known;
  let longest = 1;
  for (let id = 0; id < tokenizer.vocabSize; id++) {
    longest = Math.max(longest, tokenizer.idToToken(id)?.length ?? 0);
  }
  longestTokens.set(tokenizer, longest);
  return longest;
}

/** The prompt text that the chat template makes of messages. */
export function renderChat(context: RouteContext, request: TemplateRequest): string {
  const tokenizer = requireTokenizer(context);
  const { options } = context;
  if (request.chat_template && !options.trustRequestChatTemplate) {
    throw invalidRequest(
      "Chat template is passed with request, but --trust-request-chat-template is not set. " +
        "Refused request with untrusted chat template.",
      "chat_template",
    );
  }
  const chatTemplate = request.chat_template ?? options.chatTemplate;
  const templateOptions: ChatTemplateOptions = {
    addGenerationPrompt: addsGenerationPrompt(request),
    continueFinalMessage: request.continue_final_message ?? false,
    kwargs: {
      ...options.defaultChatTemplateKwargs,
      ...(request.documents ? { documents: request.documents } : {}),
      ...request.chat_template_kwargs,
    },
    ...(chatTemplate ? { chatTemplate } : {}),
  };
  return tokenizer.applyChatTemplate(request.messages, templateOptions);
}

/** True unless the request says otherwise or continues the last message. */
export function addsGenerationPrompt(request: TemplateRequest): boolean {
  return request.add_generation_prompt ?? !request.continue_final_message;
}
