import { z } from "zod";
import { type ChatRequest, parseChatRequest } from "./chat-request.js";
import { bool, float, int, lax, list, Mismatch, object, string } from "./fields.js";
import { invalidRequest } from "./request-rules.js";
import { requestLimits } from "./sampling-fields.js";
import { parseBody } from "./validation-error.js";

type JsonObject = Record<string, unknown>;

/** Text, or a list of content blocks. */
const content = lax((value): string | JsonObject[] | Mismatch => {
  if (typeof value === "string") return value;
  const blocks = list(object(), requestLimits.messages).safeParse(value);
  if (blocks.success) return blocks.data;
  return new Mismatch("content_type", "Input should be a string or a list of content blocks");
});

const promptFields = {
  model: string().nullish(),
  messages: list(z.object({ role: string(), content }), requestLimits.messages),
  system: content.nullish(),
  tools: list(
    z.object({
      name: string(),
      description: string().nullish(),
      input_schema: object().nullish(),
      type: string().nullish(),
    }),
    requestLimits.messages,
  ).nullish(),
  tool_choice: z
    .object({
      type: string(),
      name: string().nullish(),
      disable_parallel_tool_use: bool().nullish(),
    })
    .nullish(),
};

export const countSchema = z.object(promptFields);

export const messagesSchema = z.object({
  ...promptFields,
  max_tokens: int(),
  metadata: object().nullish(),
  stop_sequences: list(string(), requestLimits.stopStrings).nullish(),
  stream: bool().nullish(),
  temperature: float().nullish(),
  top_k: int().nullish(),
  top_p: float().nullish(),
});

/** A body of POST /v1/messages as the chat that it amounts to. */
export function parseMessagesRequest(raw: unknown): ChatRequest {
  const body = parseBody(messagesSchema, raw);
  const { model, max_tokens, stop_sequences, stream, temperature, top_k, top_p } = body;
  return parseChatRequest({
    ...toChat(body),
    ...{ model, max_tokens, stream, temperature, top_k, top_p },
    stop: stop_sequences,
  });
}

/** A body of POST /v1/messages/count_tokens; only the prompt of the chat counts. */
export function parseCountRequest(raw: unknown): ChatRequest {
  const body = parseBody(countSchema, raw);
  return parseChatRequest({ ...toChat(body), model: body.model });
}

function toChat({ messages, system, tools, tool_choice: choice }: z.output<typeof countSchema>) {
  const instructions = system ? [{ role: "system", content: plainText(system) }] : [];
  return {
    messages: [...instructions, ...messages.flatMap(readMessage)],
    ...(tools?.length
      ? {
          tools: tools.map(({ name, description, input_schema }) => ({
            type: "function",
            function: { name, description, parameters: input_schema },
          })),
        }
      : {}),
    tool_choice: choice ? readChoice(choice) : undefined,
    parallel_tool_calls: !choice?.disable_parallel_tool_use,
  };
}

function readChoice({ type, name }: { type: string; name?: string | null | undefined }): unknown {
  if (type === "tool") return { type: "function", function: { name } };
  return type === "any" ? "required" : type;
}

/** A message of blocks may be several of chat: each tool result is one of its own. */
function readMessage(message: { role: string; content: string | JsonObject[] }): JsonObject[] {
  const { role, content: given } = message;
  if (typeof given === "string") return [{ role, content: given }];
  const results: JsonObject[] = [];
  const calls: JsonObject[] = [];
  const texts: string[] = [];
  for (const block of given) {
    if (block.type === "text") texts.push(String(block.text ?? ""));
    else if (block.type === "tool_use") calls.push(readCall(block));
    else if (block.type === "tool_result") results.push(readResult(block));
    else if (block.type !== "thinking" && block.type !== "redacted_thinking") {
      throw invalidRequest(
        `Content of type ${String(block.type)} is not supported: only text is served.`,
        "messages",
      );
    }
  }
  const text = texts.join("\n");
  const own = { role, content: text, ...(calls.length > 0 ? { tool_calls: calls } : {}) };
  return texts.length > 0 || calls.length > 0 ? [...results, own] : results;
}

function readCall({ id, name, input }: JsonObject): JsonObject {
  return { id, type: "function", function: { name, arguments: JSON.stringify(input ?? {}) } };
}

function readResult({ tool_use_id, content: given }: JsonObject): JsonObject {
  const text = content.safeParse(given ?? "");
  return {
    role: "tool",
    tool_call_id: tool_use_id,
    content: text.success ? plainText(text.data) : JSON.stringify(given),
  };
}

function plainText(given: string | JsonObject[]): string {
  if (typeof given === "string") return given;
  return given.map(({ text }) => String(text ?? "")).join("\n");
}
