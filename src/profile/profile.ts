import { SpanRecorder } from "./span-recorder.js";
import type { SpanName, Spans, Tracer } from "./spans.js";
import { type StepKind, StepSummary } from "./step-summary.js";
import { TraceFile } from "./trace-file.js";

/** A step that has ended. */
export interface ProfiledStep {
  /** Tokens that each sequence computed. */
  numTokens: readonly number[];
  /** Of each rank, from the step before to the end of this one. */
  spans: readonly Spans[];
}

/** The process that has the engine, in the trace; rank r is the one after. */
const ENGINE = 0;

/** What the steps of an engine and its workers spend their time on: a trace file, and a summary. */
export class Profile implements Tracer {
  readonly summary = new StepSummary();
  readonly #file: TraceFile;
  readonly #recorder = new SpanRecorder();

  /** @throws UcmError UCM_ERR_OUTPUT_FILE when the file cannot be written. */
  constructor(path: string, numRanks: number) {
    this.#file = new TraceFile(path);
    this.#file.nameProcess(ENGINE, "Engine");
    for (let rank = 0; rank < numRanks; rank++) {
      this.#file.nameProcess(rank + 1, `Worker_TP${rank}`);
    }
  }

  begin(name: SpanName, detail?: number): void {
    // One that was left by a failure has spans that never end.
    if (name === "engine step") this.#recorder.take();
    this.#recorder.begin(name, detail);
  }

  end(): void {
    this.#recorder.end();
  }

  /** To be called after the end of the span of the step. */
  endStep({ numTokens, spans }: ProfiledStep): void {
    const own = this.#recorder.take();
    this.#file.addSpans(ENGINE, own);
    for (const [rank, ofRank] of spans.entries()) this.#file.addSpans(rank + 1, ofRank);
    if (numTokens.length === 0) return;
    const kind: StepKind = numTokens.some((count) => count > 1) ? "prefill" : "decode";
    const tokens = numTokens.reduce((sum, count) => sum + count, 0);
    this.summary.add(kind, tokens, own, spans[0] ?? new Float64Array(0));
  }

  close(): void {
    this.#file.close();
  }
}
