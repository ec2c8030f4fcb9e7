import { indexOfSpan, SPAN_VALUES, type SpanName, type Spans, type Tracer } from "./spans.js";

/** Microseconds of the system's monotonic clock; performance.now() starts anew in each process. */
function nowUs(): number {
  const [seconds, nanoseconds] = process.hrtime();
  return seconds * 1e6 + nanoseconds / 1e3;
}

/** Keeps the spans of one thread of work until they are taken. */
export class SpanRecorder implements Tracer {
  #values = new Float64Array(256 * SPAN_VALUES);
  #length = 0;
  /** Where the spans are that have not ended. */
  readonly #open: number[] = [];

  begin(name: SpanName, detail = 0): void {
    if (this.#length === this.#values.length) this.#grow();
    const at = this.#length;
    this.#length += SPAN_VALUES;
    this.#open.push(at);
    this.#values[at] = indexOfSpan(name);
    this.#values[at + 1] = detail;
    this.#values[at + 2] = nowUs();
  }

  end(): void {
    const at = this.#open.pop();
    if (at !== undefined) this.#values[at + 3] = nowUs();
  }

  /** All spans that have ended since the last time; what has not ended is forgotten. */
  take(): Spans {
    const { length } = this.#open;
    // Work that failed may have left spans open, which have no end to show.
    const taken =
      length === 0 ? this.#values.slice(0, this.#length) : this.#without(new Set(this.#open));
    this.#length = 0;
    this.#open.length = 0;
    return taken;
  }

  #without(open: ReadonlySet<number>): Spans {
    return this.#values.slice(0, this.#length).filter((_, i) => !open.has(i - (i % SPAN_VALUES)));
  }

  #grow(): void {
    const larger = new Float64Array(2 * this.#values.length);
    larger.set(this.#values);
    this.#values = larger;
  }
}
