import type { FastifyInstance } from "fastify";
import { buildSamplingParams } from "../../engine/index.js";
import {
  CompletionChoiceShaper,
  type CompletionPrompt,
  type CompletionRequest,
  type CompletionStyle,
  completionChunk,
  completionResponse,
  completionUsageChunk,
  parseCompletionRequest,
  type ResponseHead,
  shapeUsage,
  type TokenCounts,
} from "../../openai/index.js";
import { type RouteContext, requireModel, servedName } from "../context.js";
import { type EncodedPrompt, encodePrompts } from "../prompts.js";
import { responseId } from "../request-id.js";
import { clientSignal, GenerationRun } from "../run-generation.js";
import { dataEvents, replyWithEvents } from "../sse.js";
import { makeTokenText, nowSeconds, streamCare, underRules, wantsUsage } from "./shared.js";

/** `max_tokens` of this route when the body has none. */
const DEFAULT_MAX_TOKENS = 16;

/** POST /v1/completions. */
export function registerCompletions(app: FastifyInstance, context: RouteContext): void {
  app.post("/v1/completions", { config: { isInference: true } }, async (request, reply) => {
    const signal = clientSignal(reply);
    const body = parseCompletionRequest(request.body);
    requireModel(context, body.model);
    const id = `cmpl-${responseId(request, body.request_id)}`;
    const head: ResponseHead = { id, created: nowSeconds(), model: servedName(context) };
    const encodeOptions = {
      addSpecialTokens: body.add_special_tokens ?? true,
      truncateTokens: body.truncate_prompt_tokens ?? null,
      maxOutputTokens: body.sampling.max_tokens ?? 1,
    };
    const prompts = await encodePrompts(context, body.prompts, encodeOptions, signal);
    const run = await startRun(context, id, body, prompts, signal);
    const answer = new CompletionAnswer(context, head, body, prompts, run);
    if (!body.stream) return answer.whole();
    return replyWithEvents(reply, answer.parts(), dataEvents, streamCare(context, id));
  });
}

async function startRun(
  context: RouteContext,
  id: string,
  body: CompletionRequest,
  prompts: readonly EncodedPrompt[],
  signal: AbortSignal,
): Promise<GenerationRun> {
  const requests = prompts.map(({ tokenIds }, promptIndex) => ({
    requestId: `${id}-${promptIndex}`,
    promptTokenIds: tokenIds,
    sampling: buildSamplingParams(
      underRules(withMaxTokens(context, body.sampling, tokenIds.length), context.options),
      context.model,
      tokenIds.length,
      context.tokenizer,
    ),
    priority: body.priority ?? 0,
    cacheSalt: body.cache_salt ?? null,
    detokenize: context.tokenizer !== null,
    isStreamed: body.stream === true,
  }));
  await context.engine.prepare(requests[0]!.sampling, signal);
  return new GenerationRun(context.engine, requests, signal);
}

/** The route's default, cut to what the context leaves; what the body asks for is not cut. */
function withMaxTokens(
  { model }: RouteContext,
  sampling: CompletionRequest["sampling"],
  promptLength: number,
): CompletionRequest["sampling"] {
  if (typeof sampling.max_tokens === "number") return sampling;
  const room = Math.max(1, model.maxModelLen - promptLength);
  return { ...sampling, max_tokens: Math.min(DEFAULT_MAX_TOKENS, room) };
}

/** Turns the outputs of one body into its response, whole or in parts. */
class CompletionAnswer {
  readonly #context: RouteContext;
  readonly #head: ResponseHead;
  readonly #body: CompletionRequest;
  readonly #prompts: readonly EncodedPrompt[];
  readonly #run: GenerationRun;
  readonly #style: CompletionStyle;
  readonly #shapers = new Map<number, CompletionChoiceShaper>();

  constructor(
    context: RouteContext,
    head: ResponseHead,
    body: CompletionRequest,
    prompts: readonly EncodedPrompt[],
    run: GenerationRun,
  ) {
    this.#context = context;
    this.#head = head;
    this.#body = body;
    this.#prompts = prompts;
    this.#run = run;
    this.#style = {
      echo: body.echo ?? false,
      echoOnly: body.echoOnly,
      logprobs: typeof body.logprobs === "number",
      promptLogprobs: typeof body.prompt_logprobs === "number",
      returnTokenIds: body.return_token_ids ?? context.tokenizer === null,
      tokenText: makeTokenText(context, body.return_tokens_as_token_ids),
    };
  }

  async whole() {
    const deltas = await this.#run.collect();
    const n = this.#run.sequencesPerPrompt;
    const choices = deltas.map((delta, index) =>
      this.#shaper(Math.floor(index / n), index).whole(delta),
    );
    return completionResponse(this.#head, choices, shapeUsage(this.#counts()));
  }

  async *parts(): AsyncGenerator<object, void> {
    const usage = wantsUsage(this.#body.stream_options, this.#context.options);
    for await (const { promptIndex, delta } of this.#run) {
      const index = this.#run.choiceIndex(promptIndex, delta.index);
      const choice = this.#shaper(promptIndex, index).chunk(delta);
      yield completionChunk(
        this.#head,
        choice,
        usage.onEveryPart ? shapeUsage(this.#counts()) : null,
      );
    }
    if (usage.atEnd) yield completionUsageChunk(this.#head, shapeUsage(this.#counts()));
  }

  #counts(): TokenCounts {
    const { counts } = this.#run;
    return this.#body.echoOnly ? { ...counts, completionTokens: 0 } : counts;
  }

  #shaper(promptIndex: number, index: number): CompletionChoiceShaper {
    let shaper = this.#shapers.get(index);
    if (shaper === undefined) {
      shaper = new CompletionChoiceShaper(index, this.#prompt(promptIndex), this.#style);
      this.#shapers.set(index, shaper);
    }
    return shaper;
  }

  #prompt(promptIndex: number): CompletionPrompt {
    const { tokenIds, text } = this.#prompts[promptIndex]!;
    const logprobs = this.#run.promptLogprobs[promptIndex] ?? null;
    if (!this.#style.echo) return { text: "", tokenIds, logprobs };
    return { text: text ?? this.#context.tokenizer?.decode(tokenIds) ?? "", tokenIds, logprobs };
  }
}
