import { HermesParser } from "./hermes.js";
import { JsonCallsParser } from "./json-calls.js";
import {
  REASONING_BEGIN,
  REASONING_END,
  ReasoningParser,
  type ReasoningStart,
} from "./reasoning.js";
import { appendParsed, type NewCallId, type ParsedText, parsed, type TextParser } from "./types.js";

export { REASONING_END } from "./reasoning.js";
export { appendParsed, type ParsedText, type TextParser, type ToolCallDelta } from "./types.js";

interface ToolParserKind {
  create(newId: NewCallId): TextParser;
  /** The tags of a call may be special tokens of the vocabulary. */
  needsSpecialTokens: boolean;
}

/** The parsers of --tool-call-parser. */
export const toolParsers: Readonly<Record<string, ToolParserKind>> = {
  hermes: { create: (newId) => new HermesParser(newId), needsSpecialTokens: true },
  llama3_json: {
    create: (newId) => new JsonCallsParser(newId, { prefix: "<|python_tag|>", marks: ";," }),
    needsSpecialTokens: false,
  },
};

/** The parsers of --reasoning-parser, and where output begins when the prompt does not say. */
export const reasoningParsers: Readonly<Record<string, ReasoningStart>> = {
  deepseek_r1: "reasoning",
  qwen3: "asItSays",
};

/** Where the output after `prompt` begins. */
export function reasoningStart(parser: string, prompt: string): ReasoningStart {
  const end = prompt.trimEnd();
  if (end.endsWith(REASONING_END)) return "content";
  if (end.endsWith(REASONING_BEGIN)) return "reasoning";
  return reasoningParsers[parser] ?? "asItSays";
}

/** How the text of a choice is to be taken apart. */
export interface ParsingPlan {
  /** Null without a reasoning parser. */
  reasoning: ReasoningStart | null;
  /** `required`: an array of calls; `named`: the arguments of one; `auto`: as the parser finds them. */
  tools:
    | { kind: "none" }
    | { kind: "auto"; parser: string }
    | { kind: "required" }
    | { kind: "named"; name: string };
}

/** A parser for one choice. */
export function createTextParser(plan: ParsingPlan, newId: NewCallId): TextParser {
  const content = createToolParser(plan.tools, newId);
  return plan.reasoning === null
    ? content
    : new Chain(new ReasoningParser(plan.reasoning), content);
}

function createToolParser(tools: ParsingPlan["tools"], newId: NewCallId): TextParser {
  switch (tools.kind) {
    case "auto":
      return toolParsers[tools.parser]!.create(newId);
    case "required":
      return new JsonCallsParser(newId, { prefix: "[", marks: "[,]" });
    case "named":
      return new NamedCallParser(tools.name, newId);
    case "none":
      return { push: (content) => parsed({ content }), finish: () => parsed() };
  }
}

/** The arguments of the one call that was asked for. */
class NamedCallParser implements TextParser {
  readonly #name: string;
  readonly #newId: NewCallId;
  #hasBegun = false;

  constructor(name: string, newId: NewCallId) {
    this.#name = name;
    this.#newId = newId;
  }

  push(text: string): ParsedText {
    if (text === "") return parsed();
    const head = this.#hasBegun ? {} : { id: this.#newId(), name: this.#name };
    this.#hasBegun = true;
    return parsed({ toolCalls: [{ index: 0, ...head, arguments: text }] });
  }

  finish(): ParsedText {
    return parsed();
  }
}

/** What the first parser finds to be content goes through the second. */
class Chain implements TextParser {
  readonly #first: TextParser;
  readonly #second: TextParser;

  constructor(first: TextParser, second: TextParser) {
    this.#first = first;
    this.#second = second;
  }

  push(text: string): ParsedText {
    const { reasoning, content } = this.#first.push(text);
    return { ...this.#second.push(content), reasoning };
  }

  finish(): ParsedText {
    const { reasoning, content } = this.#first.finish();
    const result = { ...this.#second.push(content), reasoning };
    appendParsed(result, this.#second.finish());
    return result;
  }
}
