/** Parts of a step that the summary adds up; in its order. */
export const stepParts = [
  "Dense layers",
  "Head",
  "Attention",
  "Sampling",
  "Store and sparse attention",
  "Exchange between ranks",
  "Other work of the worker",
  "Messages",
  "Scheduling",
  "Text and delivery",
  "Other work of the engine",
] as const;

export type StepPart = (typeof stepParts)[number];

/** Every span there is, and the part of a step that its own time, without spans within, counts for. */
export const spanNames = {
  /** Of the engine: one step, from its scheduling to the delivery of its tokens. */
  "engine step": "Other work of the engine",
  schedule: "Scheduling",
  send: "Messages",
  /** For the workers; what they do not take of it is messages. */
  wait: "Messages",
  deliver: "Text and delivery",
  /** Of a worker: one step, from its message to its result. */
  step: "Store and sparse attention",
  compute: "Other work of the worker",
  embed: "Other work of the worker",
  "prepare attention": "Attention",
  dense: "Dense layers",
  "wait for load": "Store and sparse attention",
  attention: "Attention",
  "exchange with ranks": "Exchange between ranks",
  head: "Head",
  sample: "Sampling",
  sparse: "Store and sparse attention",
  /** Around a worker's steps, while the engine waits for it or works itself. */
  receive: "Messages",
  reply: "Messages",
  dump: "Store and sparse attention",
} as const satisfies Record<string, StepPart>;

export type SpanName = keyof typeof spanNames;

const names = Object.keys(spanNames) as SpanName[];
const indexOf = new Map(names.map((name, index) => [name, index]));

/**
 * Spans as they travel between processes: float64 [spans, 4], in order of their begin, of index in the
 * table, detail (the layer, or 0), begin and end. Times are microseconds of the system's monotonic
 * clock, which all processes of a machine share.
 */
export type Spans = Float64Array;

export const SPAN_VALUES = 4;

export interface Span {
  name: SpanName;
  detail: number;
  beginUs: number;
  endUs: number;
}

export function spanAt(spans: Spans, index: number): Span {
  const at = index * SPAN_VALUES;
  return {
    name: names[spans[at]!]!,
    detail: spans[at + 1]!,
    beginUs: spans[at + 2]!,
    endUs: spans[at + 3]!,
  };
}

export function listSpans(spans: Spans): Span[] {
  return Array.from({ length: spans.length / SPAN_VALUES }, (_, i) => spanAt(spans, i));
}

export const indexOfSpan = (name: SpanName): number => indexOf.get(name)!;

/** Is told when a piece of work begins and ends; pieces lie within each other. */
export interface Tracer {
  begin(name: SpanName, detail?: number): void;
  /** Of the piece that began last and has not ended. */
  end(): void;
}

/** When nobody profiles. */
export const noTracer: Tracer = { begin() {}, end() {} };
