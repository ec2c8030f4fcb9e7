/** What became of the object with a character. */
export type ScanStatus = "open" | "closed" | "broken";

type Phase = "start" | "key" | "inKey" | "colon" | "value" | "inValue" | "after";

const blank = /\s/;

/**
 * Reads one JSON object character by character and hands on the raw text of its top-level values as
 * it comes. It checks no more of a value than it needs to find its end.
 */
export class ObjectScanner {
  readonly #onValue: (key: string, text: string, isComplete: boolean) => void;
  #phase: Phase = "start";
  #rawKey = "";
  #key = "";
  #depth = 0;
  #inString = false;
  #isEscaped = false;

  /** `onValue` is called with each character of a value, and with none when the value is complete. */
  constructor(onValue: (key: string, text: string, isComplete: boolean) => void) {
    this.#onValue = onValue;
  }

  push(character: string): ScanStatus {
    if (this.#phase === "inKey") return this.#readKey(character);
    if (this.#phase === "inValue") return this.#readValue(character);
    if (blank.test(character)) return "open";
    if (this.#phase === "value") {
      this.#phase = "inValue";
      return this.#readValue(character);
    }
    return this.#readMark(character);
  }

  #readMark(character: string): ScanStatus {
    const transition = `${this.#phase} ${character}`;
    const isKey = transition === 'key "';
    if (isKey) this.#rawKey = character;
    if (transition === "key }" || transition === "after }") return "closed";
    const next = { "start {": "key", 'key "': "inKey", "colon :": "value", "after ,": "key" };
    const phase = next[transition as keyof typeof next] as Phase | undefined;
    if (phase === undefined) return "broken";
    this.#phase = phase;
    return "open";
  }

  #readKey(character: string): ScanStatus {
    this.#rawKey += character;
    if (this.#endsString(character)) {
      try {
        this.#key = String(JSON.parse(this.#rawKey));
      } catch {
        return "broken";
      }
      this.#phase = "colon";
    }
    return "open";
  }

  #readValue(character: string): ScanStatus {
    if (this.#inString) {
      this.#onValue(this.#key, character, false);
      if (this.#endsString(character)) {
        this.#inString = false;
        if (this.#depth === 0) this.#endValue();
      }
      return "open";
    }
    const isEnd = blank.test(character) || character === "," || character === "}";
    if (this.#depth === 0 && isEnd) {
      this.#endValue();
      return blank.test(character) ? "open" : this.#readMark(character);
    }
    this.#onValue(this.#key, character, false);
    if (character === '"') this.#inString = true;
    else if (character === "{" || character === "[") this.#depth++;
    else if ((character === "}" || character === "]") && --this.#depth === 0) this.#endValue();
    return this.#depth < 0 ? "broken" : "open";
  }

  #endValue(): void {
    this.#phase = "after";
    this.#onValue(this.#key, "", true);
  }

  /** Whether the character ends a string, given those before it. */
  #endsString(character: string): boolean {
    if (this.#isEscaped) this.#isEscaped = false;
    else if (character === "\\") this.#isEscaped = true;
    else return character === '"';
    return false;
  }
}
