import { ObjectScanner, type ScanStatus } from "./object-scanner.js";
import type { NewCallId, ToolCallDelta } from "./types.js";

const argumentKeys = ["arguments", "parameters"];

/**
 * Reads a tool call, `{"name": …, "arguments": {…}}` with the keys in any order. It counts as begun
 * with the first character of its arguments once its name is known; until then it may turn out to be
 * no call at all, and `raw` is what it was.
 */
export class CallReader {
  /** Every character so far. */
  raw = "";
  readonly #index: number;
  readonly #newId: NewCallId;
  readonly #scanner = new ObjectScanner((...value) => this.#take(...value));
  #rawName = "";
  #name: string | null = null;
  #isBadName = false;
  #arguments = "";
  #hasBegun = false;

  constructor(index: number, newId: NewCallId) {
    this.#index = index;
    this.#newId = newId;
  }

  /** Whether something of it was handed out. */
  get hasBegun(): boolean {
    return this.#hasBegun;
  }

  push(character: string): ScanStatus {
    this.raw += character;
    const status = this.#scanner.push(character);
    if (this.#isBadName) return "broken";
    return status === "closed" && !this.#isReady && !this.#hasBegun ? "broken" : status;
  }

  /** News since the last call, null when there are none. */
  takeDelta(): ToolCallDelta | null {
    if (!this.#isReady) return null;
    const text = this.#arguments;
    this.#arguments = "";
    if (this.#hasBegun) return { index: this.#index, arguments: text };
    this.#hasBegun = true;
    return { index: this.#index, id: this.#newId(), name: this.#name ?? "", arguments: text };
  }

  get #isReady(): boolean {
    return this.#name !== null && this.#arguments !== "";
  }

  #take(key: string, text: string, isComplete: boolean): void {
    if (argumentKeys.includes(key)) this.#arguments += text;
    if (key !== "name") return;
    this.#rawName += text;
    if (!isComplete) return;
    const name: unknown = parseOr(this.#rawName, null);
    this.#isBadName = typeof name !== "string" || name === "";
    if (!this.#isBadName) this.#name = name as string;
  }
}

function parseOr(text: string, fallback: unknown): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return fallback;
  }
}
