import type { Block, BlockEvent } from "./blocks.js";
import type { ChoiceDelta } from "./choice.js";
import type { TokenCounts } from "./usage.js";

/** What the events and the body of one message share. */
export interface MessageHead {
  /** msg_… */
  id: string;
  model: string;
}

type Ending = Pick<ChoiceDelta, "finishReason" | "stopReason">;

/** The body of POST /v1/messages. */
export function messageBody(
  head: MessageHead,
  blocks: readonly Block[],
  ending: Ending,
  counts: TokenCounts,
) {
  return {
    id: head.id,
    type: "message",
    role: "assistant",
    content: blocks.map((block) => contentBlock(block, block.text)),
    model: head.model,
    ...messageEnding(ending, blocks),
    usage: messageUsage(counts),
  };
}

export function messageUsage({ promptTokens, completionTokens, cachedTokens }: TokenCounts) {
  return {
    input_tokens: promptTokens - cachedTokens,
    output_tokens: completionTokens,
    cache_creation_input_tokens: 0,
    cache_read_input_tokens: cachedTokens,
  };
}

/** Why the message ended, in Anthropic's words. */
export function messageEnding({ finishReason, stopReason }: Ending, blocks: readonly Block[]) {
  const isStopString = typeof stopReason === "string";
  const endsInCall = blocks.some(({ kind }) => kind === "call");
  const stopped = isStopString ? "stop_sequence" : "end_turn";
  const reason = finishReason === "length" ? "max_tokens" : stopped;
  return {
    stop_reason: endsInCall && reason === "end_turn" ? "tool_use" : reason,
    stop_sequence: isStopString ? stopReason : null,
  };
}

/** The first event of a stream: the message before there is any of it. */
export function messageStart(head: MessageHead, counts: TokenCounts) {
  const { id, model } = head;
  const message = {
    id,
    type: "message",
    role: "assistant",
    content: [],
    model,
    stop_reason: null,
    stop_sequence: null,
    usage: messageUsage({ ...counts, completionTokens: 0 }),
  };
  return { type: "message_start", message };
}

/** The event of a stream for what became of a block. */
export function contentBlockEvent(event: BlockEvent) {
  const { block } = event;
  const { index } = block;
  if (event.type === "close") return { type: "content_block_stop", index };
  if (event.type !== "delta") {
    const empty = { ...contentBlock(block, ""), ...(block.kind === "call" ? { input: {} } : {}) };
    return { type: "content_block_start", index, content_block: empty };
  }
  const { text } = event;
  const deltas = {
    reasoning: { type: "thinking_delta", thinking: text },
    text: { type: "text_delta", text },
    call: { type: "input_json_delta", partial_json: text },
  };
  return { type: "content_block_delta", index, delta: deltas[block.kind] };
}

function contentBlock({ kind, callId, name }: Block, text: string) {
  if (kind === "text") return { type: "text", text };
  if (kind === "reasoning") return { type: "thinking", thinking: text, signature: "" };
  return { type: "tool_use", id: callId, name, input: readArguments(text) };
}

/** Arguments that were cut off are no JSON; what there is of them is told as it is. */
function readArguments(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return { arguments: text };
  }
}
