import type { FastifyInstance } from "fastify";
import { buildSamplingParams } from "../../engine/index.js";
import {
  type ChatRequest,
  type ChatStyle,
  chatChoice,
  chatDeltaChunk,
  chatResponse,
  chatRoleChunk,
  chatTextChunk,
  chatUsageChunk,
  type ParsingPlan,
  parseChatRequest,
  promptLogprobs,
  type ResponseHead,
  shapeUsage,
} from "../../openai/index.js";
import { adaptSampling, ChoiceParser, isSilent, planParsing } from "../chat-parsing.js";
import { type RouteContext, requireModel, servedName } from "../context.js";
import { addsGenerationPrompt, encodePrompts, renderChat } from "../prompts.js";
import { responseId } from "../request-id.js";
import { clientSignal, GenerationRun } from "../run-generation.js";
import { replyWithEvents } from "../sse.js";
import { makeTokenText, nowSeconds, wantsUsage } from "./shared.js";

/** POST /v1/chat/completions: text in, text out. */
export function registerChatCompletions(app: FastifyInstance, context: RouteContext): void {
  app.post("/v1/chat/completions", { config: { isInference: true } }, async (request, reply) => {
    const signal = clientSignal(reply);
    const body = parseChatRequest(request.body);
    requireModel(context, body.model);
    const id = `chatcmpl-${responseId(request, body.request_id)}`;
    const head: ResponseHead = { id, created: nowSeconds(), model: servedName(context) };
    const { run, plan } = await startRun(context, id, body, signal);
    const answer = { context, head, body, run, plan, style: makeStyle(context, body) };
    if (!body.stream) return wholeAnswer(answer);
    return replyWithEvents(reply, answerParts(answer), (error) =>
      context.options.reportError(error, id),
    );
  });
}

async function startRun(
  context: RouteContext,
  id: string,
  body: ChatRequest,
  signal: AbortSignal,
): Promise<{ run: GenerationRun; plan: ParsingPlan }> {
  const encodeOptions = {
    addSpecialTokens: body.add_special_tokens ?? false,
    truncateTokens: body.truncate_prompt_tokens ?? null,
    maxOutputTokens: body.sampling.max_tokens ?? 1,
  };
  const text = renderChat(context, body);
  const [prompt] = await encodePrompts(context, [text], encodeOptions, signal);
  const promptTokenIds = prompt!.tokenIds;
  const plan = planParsing(context, body, text);
  const request = {
    requestId: id,
    promptTokenIds,
    sampling: buildSamplingParams(
      adaptSampling(context, body, plan),
      context.model,
      promptTokenIds.length,
      context.tokenizer,
    ),
    priority: body.priority ?? 0,
    cacheSalt: body.cache_salt ?? null,
    detokenize: true,
  };
  await context.engine.prepare(request.sampling);
  return { run: new GenerationRun(context.engine, [request], signal), plan };
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
  run: GenerationRun;
  plan: ParsingPlan;
  style: ChatStyle;
}

async function wholeAnswer({ head, body, run, plan, style }: Answer) {
  const deltas = await run.collect();
  const choices = deltas.map((delta, index) =>
    chatChoice(index, new ChoiceParser(plan, body).parse(delta), style),
  );
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
  run,
  plan,
  style,
}: Answer): AsyncGenerator<object, void> {
  const usage = wantsUsage(body.stream_options, context.options);
  const withUsage = (part: object) =>
    usage.onEveryPart ? { ...part, usage: shapeUsage(run.counts) } : part;
  const parsers = new Map<number, ChoiceParser>();
  const parserOf = (index: number) => {
    const parser = parsers.get(index) ?? new ChoiceParser(plan, body);
    parsers.set(index, parser);
    return parser;
  };
  let isOpen = false;
  for await (const { delta } of run) {
    if (!isOpen) {
      isOpen = true;
      for (const part of openingParts(head, run, style)) yield withUsage(part);
    }
    const parsed = parserOf(delta.index).parse(delta);
    const isPlain = delta.text === "" || style.returnTokenIds || style.logprobs;
    if (isPlain || !isSilent(parsed)) {
      yield withUsage(chatDeltaChunk(head, delta.index, parsed, style));
    }
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
