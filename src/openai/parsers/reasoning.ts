import { type ParsedText, parsed, partialTagLength, type TextParser } from "./types.js";

export const REASONING_BEGIN = "<think>";
export const REASONING_END = "</think>";

/** Where output begins: in reasoning, in content, or in reasoning only if it says so. */
export type ReasoningStart = "reasoning" | "content" | "asItSays";

/**
 * Splits output at `</think>`: reasoning before, content after. `<think>` at the start of the output
 * is left out; white space is kept, as in vLLM.
 */
export class ReasoningParser implements TextParser {
  #held = "";
  #phase: "start" | "reasoning" | "content";
  readonly #start: ReasoningStart;

  constructor(start: ReasoningStart) {
    this.#start = start;
    this.#phase = start === "content" ? "content" : "start";
  }

  push(text: string): ParsedText {
    const all = this.#held + text;
    this.#held = "";
    if (this.#phase === "start") return this.#readStart(all);
    return this.#phase === "reasoning" ? this.#readReasoning(all) : parsed({ content: all });
  }

  finish(): ParsedText {
    const held = this.#held;
    this.#held = "";
    const isReasoning =
      this.#phase === "reasoning" || (this.#phase === "start" && this.#start === "reasoning");
    return parsed(isReasoning ? { reasoning: held } : { content: held });
  }

  #readStart(all: string): ParsedText {
    const begun = all.trimStart();
    if (begun.startsWith(REASONING_BEGIN)) {
      this.#phase = "reasoning";
      return this.#readReasoning(begun.slice(REASONING_BEGIN.length));
    }
    if (REASONING_BEGIN.startsWith(begun)) {
      this.#held = all;
      return parsed();
    }
    this.#phase = this.#start === "reasoning" ? "reasoning" : "content";
    return this.#phase === "reasoning" ? this.#readReasoning(all) : parsed({ content: all });
  }

  #readReasoning(all: string): ParsedText {
    const end = all.indexOf(REASONING_END);
    if (end >= 0) {
      this.#phase = "content";
      return parsed({
        reasoning: all.slice(0, end),
        content: all.slice(end + REASONING_END.length),
      });
    }
    const safe = all.length - partialTagLength(all, REASONING_END);
    this.#held = all.slice(safe);
    return parsed({ reasoning: all.slice(0, safe) });
  }
}
