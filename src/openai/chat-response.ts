import type { ChoiceDelta, ResponseHead } from "./choice.js";
import {
  type ChatLogprobs,
  chatLogprobs,
  type PromptLogprobsShape,
  type TokenText,
} from "./logprobs.js";
import type { ParsedText, ToolCallDelta } from "./parsers/index.js";
import type { Usage } from "./usage.js";

/** How the choices of a chat request are to be shaped. */
export interface ChatStyle {
  role: string;
  /** Put before what is generated: the last message under echo, else empty. */
  prefix: string;
  logprobs: boolean;
  returnTokenIds: boolean;
  includeReasoning: boolean;
  tokenText: TokenText;
}

/** A choice of a whole chat response. */
export interface ChatChoice {
  index: number;
  message: {
    role: string;
    content: string | null;
    refusal: null;
    annotations: null;
    audio: null;
    function_call: null;
    tool_calls: ToolCallShape[];
    reasoning: string | null;
  };
  logprobs: ChatLogprobs | null;
  finish_reason: string | null;
  stop_reason: string | number | null;
  token_ids: readonly number[] | null;
}

interface ToolCallShape {
  id: string;
  type: "function";
  function: { name: string; arguments: string };
}

/** A chat delta, whose text was taken apart. */
export interface ChatDelta extends ChoiceDelta {
  parsed: ParsedText;
}

/** One choice from everything that was generated for it. */
export function chatChoice(index: number, delta: ChatDelta, style: ChatStyle): ChatChoice {
  const { reasoning, content, toolCalls } = delta.parsed;
  const text = style.prefix + content;
  const hasMore = reasoning !== "" || toolCalls.length > 0;
  return {
    index,
    message: {
      role: style.role,
      content: text === "" && hasMore ? null : text,
      refusal: null,
      annotations: null,
      audio: null,
      function_call: null,
      tool_calls: toolCalls.map(({ id = "", name = "", arguments: text }) => ({
        id,
        type: "function",
        function: { name, arguments: text },
      })),
      reasoning: style.includeReasoning && reasoning !== "" ? reasoning : null,
    },
    logprobs: shapeLogprobs(delta, style),
    finish_reason: delta.finishReason,
    stop_reason: delta.stopReason,
    token_ids: style.returnTokenIds ? delta.tokenIds : null,
  };
}

/** The body of a response that is not streamed. */
export function chatResponse(
  head: ResponseHead,
  choices: ChatChoice[],
  usage: Usage,
  prompt: { logprobs: PromptLogprobsShape | null; tokenIds: readonly number[] | null },
) {
  return {
    id: head.id,
    object: "chat.completion",
    created: head.created,
    model: head.model,
    choices,
    service_tier: null,
    system_fingerprint: null,
    usage,
    prompt_logprobs: prompt.logprobs,
    prompt_token_ids: prompt.tokenIds,
    kv_transfer_params: null,
  };
}

/** The first part of a choice's stream: its role, and the prompt's token ids when asked for. */
export function chatRoleChunk(
  head: ResponseHead,
  index: number,
  role: string,
  promptTokenIds: readonly number[] | null,
) {
  const delta = { role, content: "" };
  const choice = { index, delta, logprobs: null, finish_reason: null };
  return { ...chunk(head, [choice]), prompt_token_ids: promptTokenIds };
}

/** A part with text of a choice that is not from the model: the echoed message. */
export function chatTextChunk(head: ResponseHead, index: number, content: string) {
  return chunk(head, [{ index, delta: { content }, logprobs: null, finish_reason: null }]);
}

/** A part with what was generated. */
export function chatDeltaChunk(
  head: ResponseHead,
  index: number,
  delta: ChatDelta,
  style: ChatStyle,
) {
  const isLast = delta.finishReason !== null;
  return chunk(head, [
    {
      index,
      delta: shapeDelta(delta.parsed, style),
      logprobs: shapeLogprobs(delta, style),
      finish_reason: delta.finishReason,
      ...(isLast ? { stop_reason: delta.stopReason } : {}),
      token_ids: style.returnTokenIds ? delta.tokenIds : null,
    },
  ]);
}

function shapeDelta({ reasoning, content, toolCalls }: ParsedText, style: ChatStyle) {
  const hasReasoning = style.includeReasoning && reasoning !== "";
  const hasMore = hasReasoning || toolCalls.length > 0;
  return {
    ...(hasReasoning ? { reasoning } : {}),
    ...(content === "" && hasMore ? {} : { content }),
    ...(toolCalls.length > 0 ? { tool_calls: toolCalls.map(shapeCallDelta) } : {}),
  };
}

function shapeCallDelta({ index, id, name, arguments: text }: ToolCallDelta) {
  if (id === undefined) return { index, function: { arguments: text } };
  return { index, id, type: "function", function: { name, arguments: text } };
}

/** The last part of a stream when usage was asked for. */
export function chatUsageChunk(head: ResponseHead, usage: Usage) {
  return { ...chunk(head, []), usage };
}

function chunk<Choice>(head: ResponseHead, choices: Choice[]) {
  return {
    id: head.id,
    object: "chat.completion.chunk",
    created: head.created,
    model: head.model,
    choices,
  };
}

function shapeLogprobs(delta: ChoiceDelta, style: ChatStyle): ChatLogprobs | null {
  if (!style.logprobs || delta.logprobs === null) return null;
  return chatLogprobs(delta.tokenIds, delta.logprobs, style.tokenText);
}
