/** Text that may go out, and the stop string that was found, if any. */
export interface StopMatch {
  text: string;
  stop: string | null;
}

/**
 * Finds stop strings in text that arrives in pieces. Unless the stop string is part of the output,
 * the last `longest stop string - 1` characters are held back, so that no start of a stop string is
 * ever sent; text never ends between the two halves of a surrogate pair.
 *
 * The earliest match wins (the first listed among equals), so that the text before it is free of
 * every stop string; vLLM takes the first listed.
 */
export class StopStringMatcher {
  readonly #stops: readonly string[];
  readonly #includeInOutput: boolean;
  /** Characters before new text in which a match may begin. */
  readonly #reach: number;
  /** The end of the text so far: at least the last `#reach` characters and all that is held back. */
  #window = "";
  /** Characters of the window that have gone out. */
  #released = 0;

  constructor(stops: readonly string[], includeInOutput: boolean) {
    this.#stops = stops;
    this.#includeInOutput = includeInOutput;
    this.#reach = Math.max(0, ...stops.map((stop) => stop.length - 1));
  }

  /**
   * Adds text. `searchable` is false while min_tokens forbids an end: a stop string that lies wholly
   * in such text is never found.
   */
  push(text: string, searchable: boolean): StopMatch {
    this.#window += text;
    const match = searchable && text !== "" ? this.#find(text.length) : null;
    if (match !== null) {
      const end = match.start + (this.#includeInOutput ? match.stop.length : 0);
      return { text: this.#release(end), stop: match.stop };
    }
    const held = this.#includeInOutput ? 0 : this.#reach;
    return { text: this.#release(this.#window.length - held), stop: null };
  }

  /** The text still held back, when nothing more will come. */
  flush(): string {
    return this.#release(this.#window.length);
  }

  /** The earliest match that ends in the last `newLength` characters. */
  #find(newLength: number): { start: number; stop: string } | null {
    let best: { start: number; stop: string } | null = null;
    for (const stop of this.#stops) {
      const from = Math.max(0, this.#window.length - newLength - stop.length + 1);
      const start = this.#window.indexOf(stop, from);
      if (start !== -1 && (best === null || start < best.start)) best = { start, stop };
    }
    return best;
  }

  /** Lets the window go out up to `end`, and forgets what no match can reach any more. */
  #release(end: number): string {
    const safeEnd = endsInHighSurrogate(this.#window, end) ? end - 1 : end;
    if (safeEnd <= this.#released) return "";
    const text = this.#window.slice(this.#released, safeEnd);
    const forget = Math.max(0, Math.min(safeEnd, this.#window.length - this.#reach));
    this.#window = this.#window.slice(forget);
    this.#released = safeEnd - forget;
    return text;
  }
}

function endsInHighSurrogate(text: string, end: number): boolean {
  if (end <= 0 || end >= text.length) return false;
  const code = text.charCodeAt(end - 1);
  return code >= 0xd800 && code < 0xdc00;
}
