import { buildSamplingParams } from "../engine/index.js";
import type { ChatDelta, ChatRequest, ParsingPlan } from "../openai/index.js";
import { adaptSampling, ChoiceParser, planParsing } from "./chat-parsing.js";
import type { RouteContext } from "./context.js";
import { encodePrompts, renderChat } from "./prompts.js";
import { underRules } from "./routes/shared.js";
import { GenerationRun } from "./run-generation.js";

/** A chat under way: prompt rendered and encoded, request with the engine. */
export class ChatRun {
  readonly run: GenerationRun;
  readonly #body: ChatRequest;
  readonly #plan: ParsingPlan;
  readonly #parsers = new Map<number, ChoiceParser>();

  constructor(run: GenerationRun, body: ChatRequest, plan: ParsingPlan) {
    this.run = run;
    this.#body = body;
    this.#plan = plan;
  }

  /** Everything that was generated, one delta per choice. */
  async collect(): Promise<ChatDelta[]> {
    const deltas = await this.run.collect();
    return deltas.map((delta, index) => this.#parserOf(index).parse(delta));
  }

  /** What is generated, as it comes. */
  async *deltas(): AsyncGenerator<{ index: number; delta: ChatDelta }, void> {
    for await (const { delta } of this.run) {
      yield { index: delta.index, delta: this.#parserOf(delta.index).parse(delta) };
    }
  }

  #parserOf(index: number): ChoiceParser {
    const parser = this.#parsers.get(index) ?? new ChoiceParser(this.#plan, this.#body);
    this.#parsers.set(index, parser);
    return parser;
  }
}

/** Renders, encodes and checks a chat, and hands it to the engine. */
export async function startChat(
  context: RouteContext,
  id: string,
  body: ChatRequest,
  signal: AbortSignal,
): Promise<ChatRun> {
  const encodeOptions = {
    addSpecialTokens: body.add_special_tokens ?? false,
    truncateTokens: body.truncate_prompt_tokens ?? null,
    maxOutputTokens: body.sampling.max_tokens ?? 1,
  };
  const text = renderChat(context, body);
  const plan = planParsing(context, body, text);
  const [prompt] = await encodePrompts(context, [text], encodeOptions, signal);
  const promptTokenIds = prompt!.tokenIds;
  const request = {
    requestId: id,
    promptTokenIds,
    sampling: buildSamplingParams(
      underRules(adaptSampling(context, body, plan), context.options),
      context.model,
      promptTokenIds.length,
      context.tokenizer,
    ),
    priority: body.priority ?? 0,
    cacheSalt: body.cache_salt ?? null,
    detokenize: true,
    isStreamed: body.stream === true,
  };
  await context.engine.prepare(request.sampling, signal);
  return new ChatRun(new GenerationRun(context.engine, [request], signal), body, plan);
}
