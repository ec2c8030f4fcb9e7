import { CallReader } from "./call-reader.js";
import {
  appendParsed,
  type NewCallId,
  type ParsedText,
  parsed,
  partialTagLength,
  type TextParser,
} from "./types.js";

const BEGIN = "<tool_call>";

/**
 * Tool calls as Hermes and Qwen write them: `<tool_call>{"name": …, "arguments": {…}}</tool_call>`.
 * Text before the first call is content, text after it is dropped, as in vLLM.
 */
export class HermesParser implements TextParser {
  readonly #newId: NewCallId;
  /** Text that may be the beginning of a tag. */
  #held = "";
  #reader: CallReader | null = null;
  #numCalls = 0;

  constructor(newId: NewCallId) {
    this.#newId = newId;
  }

  push(text: string): ParsedText {
    const result = parsed();
    let rest = this.#held + text;
    this.#held = "";
    while (rest !== "") {
      rest = this.#reader === null ? this.#readText(rest, result) : this.#readCall(rest, result);
    }
    return result;
  }

  finish(): ParsedText {
    const result = parsed();
    if (this.#reader !== null && !this.#reader.hasBegun) {
      this.#addContent(result, BEGIN + this.#reader.raw);
    }
    this.#addContent(result, this.#held);
    return result;
  }

  /** Returns what comes after the text. */
  #readText(text: string, result: ParsedText): string {
    const start = text.indexOf(BEGIN);
    if (start >= 0) {
      this.#addContent(result, text.slice(0, start));
      this.#reader = new CallReader(this.#numCalls, this.#newId);
      return text.slice(start + BEGIN.length);
    }
    const safe = text.length - partialTagLength(text, BEGIN);
    this.#addContent(result, text.slice(0, safe));
    this.#held = text.slice(safe);
    return "";
  }

  #readCall(text: string, result: ParsedText): string {
    const reader = this.#reader!;
    let end = 0;
    let status: ReturnType<CallReader["push"]> = "open";
    for (const character of text) {
      end += character.length;
      status = reader.push(character);
      if (status !== "open") break;
    }
    const delta = reader.takeDelta();
    if (delta !== null) appendParsed(result, parsed({ toolCalls: [delta] }));
    if (status === "open") return "";
    this.#reader = null;
    if (reader.hasBegun) this.#numCalls++;
    else this.#addContent(result, BEGIN + reader.raw);
    return text.slice(end);
  }

  #addContent(result: ParsedText, text: string): void {
    if (this.#numCalls === 0) result.content += text;
  }
}
