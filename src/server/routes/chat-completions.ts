import type { FastifyInstance } from "fastify";
import {
  type ChatRequest,
  type ChatStyle,
  chatChoice,
  chatDeltaChunk,
  chatResponse,
  chatRoleChunk,
  chatTextChunk,
  chatUsageChunk,
  parseChatRequest,
  promptLogprobs,
  type ResponseHead,
  shapeUsage,
} from "../../openai/index.js";
import { isSilent } from "../chat-parsing.js";
import { type ChatRun, startChat } from "../chat-run.js";
import { type RouteContext, requireModel, servedName } from "../context.js";
import { addsGenerationPrompt } from "../prompts.js";
import { responseId } from "../request-id.js";
import { clientSignal, type GenerationRun } from "../run-generation.js";
import { dataEvents, replyWithEvents } from "../sse.js";
import { makeTokenText, nowSeconds, streamCare, wantsUsage } from "./shared.js";

/** POST /v1/chat/completions: text in, text out. */
export function registerChatCompletions(app: FastifyInstance, context: RouteContext): void {
  app.post("/v1/chat/completions", { config: { isInference: true } }, async (request, reply) => {
    const signal = clientSignal(reply);
    const body = parseChatRequest(request.body);
    requireModel(context, body.model);
    const id = `chatcmpl-${responseId(request, body.request_id)}`;
    const head: ResponseHead = { id, created: nowSeconds(), model: servedName(context) };
    const chat = await startChat(context, id, body, signal);
    const answer = { context, head, body, chat, style: makeStyle(context, body) };
    if (!body.stream) return wholeAnswer(answer);
    return replyWithEvents(reply, answerParts(answer), dataEvents, streamCare(context, id));
  });
}

function makeStyle(context: RouteContext, body: ChatRequest): ChatStyle {
  const last = body.messages.at(-1);
  const role = addsGenerationPrompt(body)
    ? context.options.responseRole
    : (last?.role ?? context.options.responseRole);
  return {
    role,
    prefix: body.echo && last?.role === role ? contentText(last.content) : "",
    logprobs: body.logprobs ?? false,
    returnTokenIds: body.return_token_ids ?? false,
    includeReasoning: body.include_reasoning ?? true,
    tokenText: makeTokenText(context, body.return_tokens_as_token_ids),
  };
}

function contentText(content: ChatRequest["messages"][number]["content"]): string {
  if (typeof content === "string") return content;
  return (content ?? []).map((part) => part.text ?? "").join("\n");
}

interface Answer {
  context: RouteContext;
  head: ResponseHead;
  body: ChatRequest;
  chat: ChatRun;
  style: ChatStyle;
}

async function wholeAnswer({ head, chat, style }: Answer) {
  const { run } = chat;
  const deltas = await chat.collect();
  const choices = deltas.map((delta, index) => chatChoice(index, delta, style));
  const scores = run.promptLogprobs[0] ?? null;
  return chatResponse(head, choices, shapeUsage(run.counts), {
    logprobs: scores === null ? null : promptLogprobs(scores, style.tokenText),
    tokenIds: style.returnTokenIds ? run.requests[0]!.promptTokenIds : null,
  });
}

/** Every choice opens with its role, once anything at all was generated. */
async function* answerParts({
  context,
  head,
  body,
  chat,
  style,
}: Answer): AsyncGenerator<object, void> {
  const { run } = chat;
  const usage = wantsUsage(body.stream_options, context.options);
  const withUsage = (part: object) =>
    usage.onEveryPart ? { ...part, usage: shapeUsage(run.counts) } : part;
  let isOpen = false;
  for await (const { index, delta } of chat.deltas()) {
    if (!isOpen) {
      isOpen = true;
      for (const part of openingParts(head, run, style)) yield withUsage(part);
    }
    const tellsMore = delta.text === "" || style.returnTokenIds || style.logprobs;
    if (tellsMore || !isSilent(delta)) yield withUsage(chatDeltaChunk(head, index, delta, style));
  }
  if (usage.atEnd) yield chatUsageChunk(head, shapeUsage(run.counts));
}

function openingParts(head: ResponseHead, run: GenerationRun, style: ChatStyle): object[] {
  const promptTokenIds = style.returnTokenIds ? run.requests[0]!.promptTokenIds : null;
  const indices = Array.from({ length: run.sequencesPerPrompt }, (_, index) => index);
  const roles = indices.map((index) => chatRoleChunk(head, index, style.role, promptTokenIds));
  if (style.prefix === "") return roles;
  return [...roles, ...indices.map((index) => chatTextChunk(head, index, style.prefix))];
}
