import type { Block, BlockEvent } from "./blocks.js";
import type { ResponsesRequest } from "./responses-request.js";
import type { TokenCounts } from "./usage.js";

/** What the events and the body of one response share. */
export interface ResponsesHead {
  /** resp_… */
  id: string;
  /** Unix time in seconds. */
  created: number;
  model: string;
  request: ResponsesRequest["body"];
  /** The id of a block's item. */
  itemId(block: Block): string;
}

export interface ResponsesEnd {
  blocks: readonly Block[];
  counts: TokenCounts;
  finishReason: string | null;
}

/** The body of a response; without `end`, as it is at the beginning. */
export function responsesBody(head: ResponsesHead, end: ResponsesEnd | null) {
  const { request } = head;
  const isCut = end?.finishReason === "length";
  const status = isCut ? "incomplete" : "completed";
  return {
    id: head.id,
    created_at: head.created,
    object: "response",
    status: end === null ? "in_progress" : status,
    incomplete_details: isCut ? { reason: "max_output_tokens" } : null,
    error: null,
    instructions: request.instructions ?? null,
    metadata: request.metadata ?? null,
    model: head.model,
    output: end === null ? [] : end.blocks.map((block) => outputItem(head, block, "completed")),
    parallel_tool_calls: request.parallel_tool_calls ?? true,
    temperature: request.temperature ?? null,
    tool_choice: request.tool_choice ?? "auto",
    tools: request.tools ?? [],
    top_p: request.top_p ?? null,
    background: false,
    max_output_tokens: request.max_output_tokens ?? null,
    max_tool_calls: null,
    previous_response_id: null,
    prompt: null,
    reasoning: request.reasoning ?? null,
    service_tier: "auto",
    text: request.text ?? null,
    top_logprobs: null,
    truncation: "disabled",
    usage: end === null ? null : responsesUsage(end.counts),
    user: request.user ?? null,
  };
}

function responsesUsage({ promptTokens, completionTokens, cachedTokens }: TokenCounts) {
  return {
    input_tokens: promptTokens,
    input_tokens_details: { cached_tokens: cachedTokens },
    output_tokens: completionTokens,
    output_tokens_details: { reasoning_tokens: 0, tool_output_tokens: 0 },
    total_tokens: promptTokens + completionTokens,
  };
}

function outputItem(head: ResponsesHead, block: Block, status: "in_progress" | "completed") {
  const id = head.itemId(block);
  const isOpen = status === "in_progress";
  if (block.kind === "call") {
    const { callId, name, text } = block;
    return { type: "function_call", id, call_id: callId, name, arguments: text, status };
  }
  const content = isOpen ? [] : [contentPart(block, block.text)];
  return block.kind === "reasoning"
    ? { type: "reasoning", id, summary: [], content, encrypted_content: null, status }
    : { type: "message", id, role: "assistant", content, status };
}

function contentPart(block: Block, text: string) {
  return block.kind === "reasoning"
    ? { type: "reasoning_text", text }
    : { type: "output_text", text, annotations: [], logprobs: [] };
}

/** Names of the events of a block's text. */
const textEvents = {
  reasoning: "response.reasoning_text",
  text: "response.output_text",
  call: "response.function_call_arguments",
} as const;

/** The events of the stream for what became of a block, without their sequence numbers. */
export function blockEvents(head: ResponsesHead, event: BlockEvent): Record<string, unknown>[] {
  const { block } = event;
  const place = { output_index: block.index };
  const item = { ...place, item_id: head.itemId(block) };
  const part = { ...item, content_index: 0 };
  const isCall = block.kind === "call";
  const name = textEvents[block.kind];
  if (event.type === "delta") {
    return [
      { type: `${name}.delta`, ...(isCall ? item : part), delta: event.text, ...noLogprobs(block) },
    ];
  }
  if (event.type === "open") {
    const added = outputItem(head, { ...block, text: "" }, "in_progress");
    return [
      { type: "response.output_item.added", ...place, item: added },
      ...(isCall
        ? []
        : [{ type: "response.content_part.added", ...part, part: contentPart(block, "") }]),
    ];
  }
  const text = isCall ? { arguments: block.text, name: block.name } : { text: block.text };
  return [
    { type: `${name}.done`, ...(isCall ? item : part), ...text, ...noLogprobs(block) },
    ...(isCall
      ? []
      : [{ type: "response.content_part.done", ...part, part: contentPart(block, block.text) }]),
    {
      type: "response.output_item.done",
      ...place,
      item: outputItem(head, block, "completed"),
    },
  ];
}

function noLogprobs({ kind }: Block) {
  return kind === "text" ? { logprobs: [] } : {};
}
