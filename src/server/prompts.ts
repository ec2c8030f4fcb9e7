import { setImmediate as nextTurn } from "node:timers/promises";
import { contextLengthError } from "../engine/context-length.js";
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

/**
 * Tokenizes the prompts of one body. Tokenizing holds up every other request, so it is done in
 * pieces with a turn of the event loop between, never for text that is certain to be refused, and no
 * further when the client has left.
 */
export async function encodePrompts(
  context: RouteContext,
  inputs: readonly PromptInput[],
  options: EncodeOptions,
  signal: AbortSignal,
): Promise<EncodedPrompt[]> {
  const encoded: EncodedPrompt[] = [];
  for (const input of inputs) {
    if (typeof input === "string") await refuseHugeText(context, input, options, signal);
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
  const { addSpecialTokens } = options;
  const tokenIds = isText ? requireTokenizer(context).encode(input, { addSpecialTokens }) : input;
  const kept = truncate(tokenIds, options, context.model.maxModelLen);
  if (kept.length === 0) throw invalidRequest("The decoder prompt cannot be empty", "prompt");
  return { tokenIds: kept, text: isText && kept === tokenIds ? input : null };
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

/** Text of more characters per token than this is rare: spaces, rules, repeated words. */
const ORDINARY_CHARACTERS_PER_TOKEN = 8;
/** Characters tokenized at once while counting. */
const COUNTED_PIECE = 16_384;
/** Cutting text into pieces may add tokens; a count this much above the limit is above it. */
const COUNTING_SLACK = 1.25;

/** Refuses text whose tokens, counted piece by piece, are more than the context takes. */
async function refuseHugeText(
  context: RouteContext,
  text: string,
  { maxOutputTokens, truncateTokens }: EncodeOptions,
  signal: AbortSignal,
): Promise<void> {
  const { maxModelLen } = context.model;
  const tokenizer = requireTokenizer(context);
  await nextTurn();
  signal.throwIfAborted();
  if (truncateTokens !== null) return requireTokenizable(context, text);
  const maxInputTokens = Math.max(0, maxModelLen - maxOutputTokens);
  if (text.length <= maxInputTokens * ORDINARY_CHARACTERS_PER_TOKEN) return;
  let tokens = 0;
  for (let start = 0; start < text.length; start += COUNTED_PIECE) {
    const piece = text.slice(start, start + COUNTED_PIECE);
    tokens += tokenizer.encode(piece, { addSpecialTokens: false }).length;
    if (tokens > maxInputTokens * COUNTING_SLACK) {
      throw contextLengthError(maxModelLen, maxOutputTokens, maxInputTokens + 1);
    }
    await nextTurn();
    signal.throwIfAborted();
  }
}

/** Characters that are tokenized in one go whatever becomes of the tokens, at least. */
const TOKENIZABLE_CHARACTERS = 1 << 20;

/** Refuses text that would take seconds to tokenize, for uses that the context does not bound. */
export function requireTokenizable({ model }: RouteContext, text: string): void {
  const ordinary = model.maxModelLen * ORDINARY_CHARACTERS_PER_TOKEN;
  const limit = Math.max(TOKENIZABLE_CHARACTERS, ordinary);
  if (text.length <= limit) return;
  throw invalidRequest(
    `The text has ${text.length} characters, more than the ${limit} that this server tokenizes at ` +
      "once. Send it in parts.",
    "prompt",
  );
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
    ...(showsTools(request, options) ? { tools: request.tools! } : {}),
    kwargs: {
      ...options.defaultChatTemplateKwargs,
      ...(request.reasoning_effort ? { reasoning_effort: request.reasoning_effort } : {}),
      ...(request.documents ? { documents: request.documents } : {}),
      ...request.chat_template_kwargs,
    },
    ...(chatTemplate ? { chatTemplate } : {}),
    ...(request.chat_template ? { isUntrusted: true } : {}),
  };
  return tokenizer.applyChatTemplate(request.messages, templateOptions);
}

function showsTools(
  { tools, tool_choice }: TemplateRequest,
  { excludeToolsWhenToolChoiceNone }: RouteContext["options"],
): boolean {
  return tools != null && !(excludeToolsWhenToolChoiceNone && tool_choice === "none");
}

/** True unless the request says otherwise or continues the last message. */
export function addsGenerationPrompt(request: TemplateRequest): boolean {
  return request.add_generation_prompt ?? !request.continue_final_message;
}
