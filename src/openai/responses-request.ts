import { z } from "zod";
import { type ChatRequest, parseChatRequest } from "./chat-request.js";
import { bool, int, lax, list, Mismatch, object, string } from "./fields.js";
import { invalidRequest } from "./request-rules.js";
import { deliveryFields, requestLimits, samplingFields } from "./sampling-fields.js";
import { parseBody } from "./validation-error.js";

const input = lax((value): string | Record<string, unknown>[] | Mismatch => {
  if (typeof value === "string") return value;
  const items = list(object(), requestLimits.messages).safeParse(value);
  if (items.success) return items.data;
  return new Mismatch("input_type", "Input should be a string or a list of items");
});

export const responsesSchema = z.object({
  ...samplingFields,
  ...deliveryFields,
  input,
  instructions: string().nullish(),
  max_output_tokens: int().nullish(),
  metadata: object().nullish(),
  parallel_tool_calls: bool().nullish(),
  previous_response_id: string().nullish(),
  reasoning: z.object({ effort: string().nullish() }).nullish(),
  store: bool().nullish(),
  background: bool().nullish(),
  text: z.object({ format: object().nullish() }).nullish(),
  tool_choice: z.unknown().optional(),
  tools: list(object(), requestLimits.messages).nullish(),
  truncation: string().nullish(),
  user: string().nullish(),
});

type ResponsesBody = z.output<typeof responsesSchema>;

/** A body of POST /v1/responses that may be run: the chat that it amounts to, and what to repeat. */
export interface ResponsesRequest {
  body: ResponsesBody;
  chat: ChatRequest;
}

/**
 * Reads a body of POST /v1/responses. UCM_ERR_INVALID_BODY when its shape is wrong,
 * UCM_ERR_INVALID_REQUEST when it asks for what cannot be: nothing is stored, so there is nothing to
 * go on from.
 */
export function parseResponsesRequest(raw: unknown): ResponsesRequest {
  const body = parseBody(responsesSchema, raw);
  if (body.previous_response_id != null) {
    throw invalidRequest(
      "previous_response_id is not supported: responses are not stored. Send the whole conversation as input.",
      "previous_response_id",
    );
  }
  if (body.background) {
    throw invalidRequest(
      "background mode is not supported: responses are not stored.",
      "background",
    );
  }
  if (body.truncation === "auto") {
    throw invalidRequest("truncation must be disabled: input is never cut.", "truncation");
  }
  return { body, chat: parseChatRequest(toChat(raw as Record<string, unknown>, body)) };
}

/** The same request as a body of chat; fields with the same name and meaning go through. */
function toChat(raw: Record<string, unknown>, body: ResponsesBody): Record<string, unknown> {
  const {
    input: _input,
    text: _text,
    reasoning: _reasoning,
    stream_options: _options,
    ...same
  } = raw;
  const { instructions, max_output_tokens, reasoning, text, tools } = body;
  const system = instructions ? [{ role: "system", content: instructions }] : [];
  return {
    ...same,
    messages: [...system, ...readInput(body.input)],
    max_completion_tokens: max_output_tokens,
    reasoning_effort: reasoning?.effort,
    ...(tools ? { tools: tools.map(readTool) } : {}),
    tool_choice: readToolChoice(body.tool_choice),
    ...(text?.format ? { response_format: readFormat(text.format) } : {}),
  };
}

function readInput(given: ResponsesBody["input"]): Record<string, unknown>[] {
  if (typeof given === "string") return [{ role: "user", content: given }];
  const messages: Record<string, unknown>[] = [];
  for (const item of given) {
    const message = readItem(item);
    if (message === null) continue;
    const last = messages.at(-1);
    // Calls made side by side are one message of the assistant.
    if (message.tool_calls && last?.role === "assistant" && !last.isAnswered) {
      last.tool_calls = [
        ...((last.tool_calls as unknown[]) ?? []),
        ...(message.tool_calls as unknown[]),
      ];
    } else messages.push(message);
  }
  return messages;
}

/** An item as a chat message; null for one that no template has a place for. */
function readItem(item: Record<string, unknown>): Record<string, unknown> | null {
  const { type = "message", role, content, call_id: id, name, output } = item;
  if (type === "reasoning") return null;
  if (type === "function_call") {
    const called = { name, arguments: item.arguments };
    return {
      role: "assistant",
      content: null,
      tool_calls: [{ id, type: "function", function: called }],
    };
  }
  if (type === "function_call_output") return { role: "tool", tool_call_id: id, content: output };
  if (type !== "message") {
    throw invalidRequest(`Input items of type ${String(type)} are not supported.`, "input");
  }
  return { role, content: Array.isArray(content) ? content.map(readPart) : content };
}

function readPart(part: unknown): unknown {
  const { type, text } = Object(part);
  return type === "input_text" || type === "output_text" ? { type: "text", text } : part;
}

function readTool(tool: Record<string, unknown>): unknown {
  if (tool.type !== "function") {
    throw invalidRequest(
      `Tools of type ${String(tool.type)} are not supported: only functions are.`,
      "tools",
    );
  }
  const { name, description, parameters, strict } = tool;
  return { type: "function", function: { name, description, parameters, strict } };
}

function readToolChoice(choice: unknown): unknown {
  const { type, name } = Object(choice);
  return type === "function" && name !== undefined ? { type, function: { name } } : choice;
}

function readFormat({ type, name, schema, strict }: Record<string, unknown>): unknown {
  return type === "json_schema" ? { type, json_schema: { name, schema, strict } } : { type };
}
