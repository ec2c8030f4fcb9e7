import { CallReader } from "./call-reader.js";
import { appendParsed, type NewCallId, type ParsedText, parsed, type TextParser } from "./types.js";

interface JsonCallsOptions {
  /** Text that may come before the first call and is no part of it. */
  prefix: string;
  /** Characters beside white space that may come before, between and after calls. */
  marks: string;
}

/**
 * Tool calls that are the whole output, one JSON object after the other. Output that begins in
 * another way is content, and so is one whose first object is no call.
 */
export class JsonCallsParser implements TextParser {
  readonly #newId: NewCallId;
  readonly #options: JsonCallsOptions;
  #phase: "start" | "between" | "call" | "content" = "start";
  #held = "";
  #reader: CallReader | null = null;
  #numCalls = 0;

  constructor(newId: NewCallId, options: JsonCallsOptions) {
    this.#newId = newId;
    this.#options = options;
  }

  push(text: string): ParsedText {
    const result = parsed();
    let rest = text;
    if (this.#phase === "start") rest = this.#readStart(text);
    for (const character of rest) this.#read(character, result);
    this.#takeDelta(result);
    return result;
  }

  finish(): ParsedText {
    const isOpen = this.#reader !== null && !this.#reader.hasBegun && this.#numCalls === 0;
    return parsed({ content: isOpen ? this.#held + this.#reader!.raw : this.#held });
  }

  /** Waits until it is certain whether the prefix is there; returns what is to be read then. */
  #readStart(text: string): string {
    const { prefix } = this.#options;
    const all = this.#held + text;
    const begun = all.trimStart();
    const isCertain = begun !== "" && (begun.length >= prefix.length || !prefix.startsWith(begun));
    this.#held = isCertain ? "" : all;
    if (!isCertain) return "";
    this.#phase = "between";
    return begun.startsWith(prefix) ? begun.slice(prefix.length) : all;
  }

  #read(character: string, result: ParsedText): void {
    if (this.#phase === "content") result.content += character;
    else if (this.#phase === "call") this.#readCall(character, result);
    else if (character === "{") {
      this.#phase = "call";
      this.#reader = new CallReader(this.#numCalls, this.#newId);
      this.#reader.push(character);
    } else if (this.#numCalls === 0 && !this.#isMark(character)) {
      this.#phase = "content";
      result.content += this.#held + character;
      this.#held = "";
    } else if (this.#numCalls === 0) this.#held += character;
  }

  #readCall(character: string, result: ParsedText): void {
    const reader = this.#reader!;
    const status = reader.push(character);
    if (status === "open") return;
    this.#takeDelta(result);
    this.#reader = null;
    this.#phase = "between";
    if (reader.hasBegun) this.#numCalls++;
    else if (this.#numCalls === 0) {
      this.#phase = "content";
      result.content += this.#held + reader.raw;
    }
    this.#held = "";
  }

  #takeDelta(result: ParsedText): void {
    const delta = this.#reader?.takeDelta() ?? null;
    if (delta === null) return;
    this.#held = "";
    appendParsed(result, parsed({ toolCalls: [delta] }));
  }

  #isMark(character: string): boolean {
    return /\s/.test(character) || this.#options.marks.includes(character);
  }
}
