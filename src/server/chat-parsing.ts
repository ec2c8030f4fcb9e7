import {
  appendParsed,
  type ChatDelta,
  type ChatRequest,
  type ChoiceDelta,
  createTextParser,
  invalidRequest,
  type ParsedText,
  type ParsingPlan,
  REASONING_END,
  reasoningStart,
  type TextParser,
  toolParsers,
} from "../openai/index.js";
import type { RouteContext } from "./context.js";
import { newId } from "./request-id.js";

/** How the answers to a chat are to be taken apart. UCM_ERR_INVALID_REQUEST when they cannot be. */
export function planParsing(
  { options }: RouteContext,
  { toolChoice }: ChatRequest,
  prompt: string,
): ParsingPlan {
  const { reasoningParser, toolCallParser, enableAutoToolChoice } = options;
  const reasoning = reasoningParser === null ? null : reasoningStart(reasoningParser, prompt);
  if (toolChoice.kind === "auto") {
    if (!enableAutoToolChoice || toolCallParser === null) {
      throw invalidRequest(
        '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set',
        "tool_choice",
      );
    }
    return { reasoning, tools: { kind: "auto", parser: toolCallParser } };
  }
  if (toolChoice.kind === "required" && toolCallParser === null) {
    throw invalidRequest(
      'tool_choice="required" requires --tool-call-parser to be set',
      "tool_choice",
    );
  }
  const { kind } = toolChoice;
  return { reasoning, tools: kind === "named" ? toolChoice : { kind } };
}

/**
 * What the plan asks of decoding: tags that are special tokens must be text, and a grammar begins
 * where reasoning ends.
 */
export function adaptSampling(
  { tokenizer }: RouteContext,
  { sampling }: ChatRequest,
  { reasoning, tools }: ParsingPlan,
): ChatRequest["sampling"] {
  const needsSpecial = tools.kind === "auto" && toolParsers[tools.parser]!.needsSpecialTokens;
  const isFree = reasoning !== null && reasoning !== "content";
  const [end = null, ...more] = isFree
    ? (tokenizer?.encode(REASONING_END, { addSpecialTokens: false }) ?? [])
    : [];
  const afterTokenId = more.length === 0 ? end : null;
  return {
    ...sampling,
    ...(needsSpecial ? { skip_special_tokens: sampling.skip_special_tokens ?? false } : {}),
    ...(sampling.grammar ? { grammar: { ...sampling.grammar, afterTokenId } } : {}),
  };
}

/** Takes the deltas of one choice apart. */
export class ChoiceParser {
  readonly #parser: TextParser;
  readonly #tools: ParsingPlan["tools"]["kind"];
  readonly #keepsAll: boolean;
  #hasCalls = false;

  constructor(plan: ParsingPlan, { parallel_tool_calls }: ChatRequest) {
    this.#parser = createTextParser(plan, () => `chatcmpl-tool-${newId()}`);
    this.#tools = plan.tools.kind;
    this.#keepsAll = parallel_tool_calls ?? true;
  }

  parse(delta: ChoiceDelta): ChatDelta {
    const parsed = this.#parser.push(delta.text);
    if (delta.finishReason !== null) appendParsed(parsed, this.#parser.finish());
    if (!this.#keepsAll) parsed.toolCalls = parsed.toolCalls.filter(({ index }) => index === 0);
    this.#hasCalls ||= parsed.toolCalls.length > 0;
    const endsInCalls = this.#hasCalls && this.#tools !== "named" && delta.finishReason === "stop";
    return { ...delta, parsed, finishReason: endsInCalls ? "tool_calls" : delta.finishReason };
  }
}

/** Whether a delta has nothing to tell: its text is not certain yet. */
export function isSilent({ parsed, finishReason }: ChatDelta): boolean {
  const { reasoning, content, toolCalls }: ParsedText = parsed;
  return finishReason === null && reasoning === "" && content === "" && toolCalls.length === 0;
}
