import { closeSync, openSync, writeSync } from "node:fs";
import { UcmError } from "../errors/index.js";
import { log } from "../log/index.js";
import { listSpans, type Spans } from "./spans.js";

/** Text that is kept until it is written at once. */
const CHUNK_LENGTH = 1 << 20;

/** Some 500 MB; browsers give up before. */
const MAX_EVENTS = 5_000_000;

/**
 * A file in Chrome's trace-event format (a JSON array of complete events, times in microseconds), which
 * chrome://tracing and ui.perfetto.dev open; also one that was cut short.
 */
export class TraceFile {
  readonly #path: string;
  readonly #descriptor: number;
  #text = "[\n";
  #separator = "";
  #numEvents = 0;
  #startUs: number | null = null;

  /** @throws UcmError UCM_ERR_OUTPUT_FILE when the file cannot be written. */
  constructor(path: string) {
    this.#path = path;
    this.#descriptor = this.#attempt(() => openSync(path, "w"));
  }

  /** Names one of the processes, 0 for the first. */
  nameProcess(pid: number, name: string): void {
    const args = { name };
    this.#add(JSON.stringify({ name: "process_name", ph: "M", pid, tid: 0, ts: 0, args }));
  }

  addSpans(pid: number, spans: Spans): void {
    for (const { name, detail, beginUs, endUs } of listSpans(spans)) {
      if (this.#numEvents >= MAX_EVENTS) return;
      this.#startUs ??= beginUs;
      const args = name === "dense" || name === "attention" ? { layer: detail } : undefined;
      this.#add(
        JSON.stringify({
          name,
          ph: "X",
          pid,
          tid: 0,
          ts: round(beginUs - this.#startUs),
          dur: round(endUs - beginUs),
          args,
        }),
      );
      this.#numEvents++;
      if (this.#numEvents === MAX_EVENTS) {
        log.warning(`${this.#path} has ${MAX_EVENTS} spans and takes no more.`);
      }
    }
    if (this.#text.length > CHUNK_LENGTH) this.#flush();
  }

  close(): void {
    this.#text += "\n]\n";
    this.#flush();
    closeSync(this.#descriptor);
  }

  #add(event: string): void {
    this.#text += this.#separator + event;
    this.#separator = ",\n";
  }

  #flush(): void {
    const text = this.#text;
    this.#text = "";
    this.#attempt(() => writeSync(this.#descriptor, text));
  }

  #attempt<T>(action: () => T): T {
    try {
      return action();
    } catch (cause) {
      const reason = (cause as Error).message;
      throw new UcmError(
        "UCM_ERR_OUTPUT_FILE",
        `Cannot write the profile ${this.#path}: ${reason}.`,
        { cause },
      );
    }
  }
}

/** To nanoseconds. */
const round = (us: number) => Math.round(us * 1000) / 1000;
