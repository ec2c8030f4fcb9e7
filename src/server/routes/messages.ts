import type { FastifyInstance } from "fastify";
import {
  BlockSplitter,
  contentBlockEvent,
  type MessageHead,
  messageBody,
  messageEnding,
  messageStart,
  messageUsage,
  parseCountRequest,
  parseMessagesRequest,
} from "../../openai/index.js";
import { type ChatRun, startChat } from "../chat-run.js";
import { type RouteContext, requireModel, servedName } from "../context.js";
import { renderChat, requireTokenizable, requireTokenizer } from "../prompts.js";
import { newId } from "../request-id.js";
import { clientSignal } from "../run-generation.js";
import { type NamedEvent, namedEvents, replyWithEvents } from "../sse.js";
import { streamCare } from "./shared.js";

/** POST /v1/messages and /v1/messages/count_tokens: Anthropic's API, for text and tools. */
export function registerMessages(app: FastifyInstance, context: RouteContext): void {
  app.post("/v1/messages", { config: { isInference: true } }, async (request, reply) => {
    const signal = clientSignal(reply);
    const body = parseMessagesRequest(request.body);
    requireModel(context, body.model);
    const head = { id: `msg_${newId()}`, model: servedName(context) };
    const chat = await startChat(context, head.id, body, signal);
    if (!body.stream) return wholeMessage(head, chat);
    return replyWithEvents(
      reply,
      messageEvents(head, chat),
      namedEvents,
      streamCare(context, head.id),
    );
  });
  app.post("/v1/messages/count_tokens", async (request) => {
    const body = parseCountRequest(request.body);
    requireModel(context, body.model);
    const text = renderChat(context, body);
    requireTokenizable(context, text);
    const tokens = requireTokenizer(context).encode(text, { addSpecialTokens: false });
    return { input_tokens: tokens.length };
  });
}

async function wholeMessage(head: MessageHead, chat: ChatRun) {
  const [delta] = await chat.collect();
  const { blocks } = BlockSplitter.split(delta!.parsed);
  return messageBody(head, blocks, delta!, chat.run.counts);
}

async function* messageEvents(head: MessageHead, chat: ChatRun): AsyncGenerator<NamedEvent, void> {
  const splitter = new BlockSplitter();
  let ending: Parameters<typeof messageEnding>[0] = { finishReason: null, stopReason: null };
  let isOpen = false;
  for await (const { delta } of chat.deltas()) {
    if (!isOpen) yield messageStart(head, chat.run.counts);
    isOpen = true;
    ending = delta;
    for (const event of splitter.push(delta.parsed)) yield contentBlockEvent(event);
  }
  for (const event of splitter.finish()) yield contentBlockEvent(event);
  const usage = messageUsage(chat.run.counts);
  yield { type: "message_delta", delta: messageEnding(ending, splitter.blocks), usage };
  yield { type: "message_stop" };
}
