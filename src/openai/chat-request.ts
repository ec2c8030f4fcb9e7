import { z } from "zod";
import type { GrammarSpec } from "../messages/index.js";
import { bool, int, lax, list, Mismatch, object, string } from "./fields.js";
import { checkDelivery, invalidRequest, refuseUnsupported } from "./request-rules.js";
import {
  deliveryFields,
  pickSamplingFields,
  requestLimits,
  type SamplingFields,
  samplingFields,
} from "./sampling-fields.js";
import { grammarFields, readGrammar } from "./structured-outputs.js";
import { readToolChoice, type ToolChoice, toolFields, toolGrammar } from "./tools.js";
import { parseBody } from "./validation-error.js";

/** A message as the chat template sees it; other fields pass through. */
export interface ChatMessageInput {
  role: string;
  content: string | { type: string; text?: string }[] | null;
  [field: string]: unknown;
}

const message = lax((value): ChatMessageInput | Mismatch => {
  if (!isObject(value)) return new Mismatch("dict_type", "Input should be a valid dictionary");
  if (typeof value.role !== "string") {
    return new Mismatch("missing", "A message needs a role, which is a string");
  }
  const content = value.content ?? null;
  const problem = contentProblem(content);
  if (problem !== null) return new Mismatch("message_content", problem);
  return { ...value, role: value.role, content: content as ChatMessageInput["content"] };
});

function contentProblem(content: unknown): string | null {
  if (content === null || typeof content === "string") return null;
  if (!Array.isArray(content)) return "The content of a message is a string or a list of parts";
  for (const part of content) {
    if (!isObject(part) || part.type !== "text" || typeof part.text !== "string") {
      return 'A part of a message must be {"type": "text", "text": "…"}: only text is served';
    }
  }
  return null;
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** Fields that shape the prompt; /tokenize takes them too. */
export const templateFields = {
  messages: list(message, requestLimits.messages),
  add_generation_prompt: bool().nullish(),
  continue_final_message: bool().nullish(),
  chat_template: string().nullish(),
  chat_template_kwargs: object().nullish(),
  documents: list(object(), requestLimits.messages).nullish(),
  reasoning_effort: string().nullish(),
  ...toolFields,
};

export const chatSchema = z.object({
  ...samplingFields,
  ...deliveryFields,
  ...grammarFields,
  ...templateFields,
  max_completion_tokens: int().nullish(),
  logprobs: bool().nullish(),
  top_logprobs: int().nullish(),
  include_reasoning: bool().nullish(),
});

type ChatBody = z.output<typeof chatSchema>;

/** What of a body makes the prompt out of messages. */
export type TemplateRequest = Pick<ChatBody, keyof typeof templateFields>;

/** A body of POST /v1/chat/completions that may be run. */
export interface ChatRequest extends ChatBody {
  /** What the engine is to decode by; max_tokens absent means as many as the context leaves. */
  sampling: SamplingFields;
  toolChoice: ToolChoice;
}

/**
 * Reads a body of POST /v1/chat/completions. UCM_ERR_INVALID_BODY when its shape is wrong,
 * UCM_ERR_INVALID_REQUEST when it asks for what cannot be.
 */
export function parseChatRequest(raw: unknown): ChatRequest {
  const body = parseBody(chatSchema, raw);
  refuseUnsupported("chat", raw as Record<string, unknown>);
  checkDelivery(body);
  checkTemplateRequest(body);
  if (typeof body.top_logprobs === "number") {
    if (body.top_logprobs < -1) {
      throw invalidRequest("`top_logprobs` must be a positive value or -1.", "top_logprobs");
    }
    if (body.top_logprobs !== 0 && !body.logprobs) {
      throw invalidRequest(
        "when using `top_logprobs`, `logprobs` must be set to true.",
        "top_logprobs",
      );
    }
  }
  const { logprobs, ...fields } = body;
  const sampling = pickSamplingFields(fields);
  const maxTokens = body.max_completion_tokens ?? body.max_tokens;
  if (typeof maxTokens === "number") sampling.max_tokens = maxTokens;
  const toolChoice = readToolChoice(body);
  const spec = readChatGrammar(body, toolChoice);
  if (spec !== null) sampling.grammar = { spec, afterTokenId: null };
  if (logprobs) sampling.logprobs = body.top_logprobs ?? 0;
  return { ...body, sampling, toolChoice };
}

/** Calls that must be made bind the output, and so may nothing else. */
function readChatGrammar(body: ChatBody, toolChoice: ToolChoice): GrammarSpec | null {
  const asked = readGrammar(body);
  const ofTools = toolGrammar(toolChoice, body.tools ?? [], body.parallel_tool_calls ?? true);
  if (asked !== null && ofTools !== null) {
    throw invalidRequest(
      "tool_choice that demands a call cannot be combined with structured outputs.",
      "tool_choice",
    );
  }
  return ofTools ?? asked;
}

/** Rules between the fields that shape the prompt, in vLLM's words. */
export function checkTemplateRequest(body: TemplateRequest): void {
  if (body.messages.length === 0) {
    throw invalidRequest("messages must hold at least one message", "messages");
  }
  if (body.continue_final_message && body.add_generation_prompt) {
    throw invalidRequest(
      "Cannot set both `continue_final_message` and `add_generation_prompt` to True.",
      "continue_final_message",
    );
  }
  for (const name of ["chat_template", "tokenize"]) {
    if (body.chat_template_kwargs && Object.hasOwn(body.chat_template_kwargs, name)) {
      throw invalidRequest(
        `\`${name}\` cannot be set in chat_template_kwargs`,
        "chat_template_kwargs",
      );
    }
  }
}
