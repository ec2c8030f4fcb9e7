import { listSpans, type Span, type Spans, type StepPart, spanNames, stepParts } from "./spans.js";

/** Steps with a prompt's tokens in them, and those with one token per sequence. */
export type StepKind = "prefill" | "decode";

interface Totals {
  steps: number;
  tokens: number;
  us: number;
  partsUs: Record<StepPart, number>;
}

/** Where the time of steps goes: the parts of each kind of step, which add up to the steps. */
export class StepSummary {
  readonly #totals: Record<StepKind, Totals> = { prefill: noTotals(), decode: noTotals() };

  /** `engine` and `worker` are the spans of one step, whole; the worker is the first rank's. */
  add(kind: StepKind, tokens: number, engine: Spans, worker: Spans): void {
    const own = listSpans(engine);
    const root = own.find(({ name }) => name === "engine step");
    if (root === undefined) return;
    const totals = this.#totals[kind];
    totals.steps += 1;
    totals.tokens += tokens;
    totals.us += lengthOf(root);
    addSelfTimes(spansWithin(own, root), totals.partsUs);
    const others = listSpans(worker);
    const step = others.find(({ name }) => name === "step");
    if (step === undefined) return;
    // The engine has waited for what the worker's spans tell apart.
    totals.partsUs[spanNames.wait] -= lengthOf(step);
    addSelfTimes(spansWithin(others, step), totals.partsUs);
  }

  /** Milliseconds per step of each part, and of all of them. */
  meanMs(kind: StepKind): { steps: number; whole: number; parts: Record<StepPart, number> } {
    const { steps, us, partsUs } = this.#totals[kind];
    const perStep = (sum: number) => sum / 1e3 / Math.max(steps, 1);
    const parts = Object.fromEntries(stepParts.map((part) => [part, perStep(partsUs[part])]));
    return { steps, whole: perStep(us), parts: parts as Record<StepPart, number> };
  }

  /** A table for people; says so when there was no step. */
  render(): string {
    const kinds = (["prefill", "decode"] as const).filter((kind) => this.#totals[kind].steps > 0);
    if (kinds.length === 0) return "No step was computed.";
    const line = (label: string, cells: string[]) =>
      `${label.padEnd(30)}${cells.map((cell) => cell.padStart(24)).join("")}`;
    const rows = stepParts.map((part) =>
      line(
        part,
        kinds.map((kind) => {
          const { parts, whole } = this.meanMs(kind);
          const percent = ((100 * parts[part]) / whole).toFixed(1);
          return `${parts[part].toFixed(3)} ms ${percent.padStart(6)} %`;
        }),
      ),
    );
    return [
      line(
        "Per step",
        kinds.map((kind) => kind),
      ),
      ...rows,
      line(
        "Whole step",
        kinds.map((kind) => `${this.meanMs(kind).whole.toFixed(3)} ms  100.0 %`),
      ),
      line(
        "Steps, tokens per step",
        kinds.map((kind) => {
          const { steps, tokens } = this.#totals[kind];
          return `${steps}, ${(tokens / steps).toFixed(1)}`;
        }),
      ),
    ].join("\n");
  }
}

function noTotals(): Totals {
  const partsUs = Object.fromEntries(stepParts.map((part) => [part, 0]));
  return { steps: 0, tokens: 0, us: 0, partsUs: partsUs as Totals["partsUs"] };
}

const lengthOf = ({ beginUs, endUs }: Span) => endUs - beginUs;

function spansWithin(spans: readonly Span[], { beginUs, endUs }: Span): Span[] {
  return spans.filter((span) => span.beginUs >= beginUs && span.endUs <= endUs);
}

/** Adds each span's time without that of the spans within it. `spans` are in order of their begin. */
function addSelfTimes(spans: readonly Span[], partsUs: Record<StepPart, number>): void {
  const around: Span[] = [];
  for (const span of spans) {
    while (around.length > 0 && around.at(-1)!.endUs <= span.beginUs) around.pop();
    const parent = around.at(-1);
    if (parent !== undefined) partsUs[spanNames[parent.name]] -= lengthOf(span);
    partsUs[spanNames[span.name]] += lengthOf(span);
    around.push(span);
  }
}
