import { describe, expect, it } from "vitest";
import { SpanRecorder } from "../../../src/profile/index.js";
import { indexOfSpan, listSpans, type SpanName } from "../../../src/profile/spans.js";
import { StepSummary } from "../../../src/profile/step-summary.js";

const spansOf = (...spans: [SpanName, number, number][]) =>
  Float64Array.from(spans.flatMap(([name, begin, end]) => [indexOfSpan(name), 0, begin, end]));

/** 10 ms: 1 scheduled, 0.5 sent, 7 waited for, 1 delivered; 0.5 in between. */
const engine = spansOf(
  ["engine step", 0, 10_000],
  ["schedule", 0, 1_000],
  ["send", 1_000, 1_500],
  ["wait", 1_750, 8_750],
  ["deliver", 9_000, 10_000],
);
/** A worker's 6 ms of those 7, after what it did since the step before. */
const worker = spansOf(
  ["dump", -3_000, -2_000],
  ["receive", 1_900, 2_000],
  ["step", 2_000, 8_000],
  ["compute", 2_500, 8_000],
  ["dense", 2_500, 4_500],
  ["exchange with ranks", 4_000, 4_500],
  ["attention", 4_500, 5_500],
  ["dense", 5_500, 6_500],
  ["head", 6_500, 7_500],
  ["sample", 7_500, 7_750],
);

describe("the summary of steps", () => {
  it("counts each moment of a step once", () => {
    const summary = new StepSummary();
    summary.add("decode", 4, engine, worker);
    const { parts, whole, steps } = summary.meanMs("decode");
    expect(parts).toEqual({
      "Dense layers": 2.5,
      Head: 1,
      Attention: 1,
      Sampling: 0.25,
      "Store and sparse attention": 0.5,
      "Exchange between ranks": 0.5,
      "Other work of the worker": 0.25,
      Messages: 1.5,
      Scheduling: 1,
      "Text and delivery": 1,
      "Other work of the engine": 0.5,
    });
    expect(Object.values(parts).reduce((sum, ms) => sum + ms, 0)).toBeCloseTo(whole, 9);
    expect([whole, steps]).toEqual([10, 1]);
  });

  it("tells prefill and decode steps apart and gives means", () => {
    const summary = new StepSummary();
    summary.add("decode", 4, engine, worker);
    summary.add("decode", 2, spansOf(["engine step", 0, 20_000]), new Float64Array(0));
    expect(summary.meanMs("decode")).toMatchObject({ whole: 15, steps: 2 });
    expect(summary.meanMs("prefill").steps).toBe(0);
    expect(summary.render()).toContain("2, 3.0");
    expect(summary.render()).not.toContain("prefill");
    summary.add("prefill", 512, engine, worker);
    expect(summary.render()).toMatch(/Per step +prefill +decode\n/);
    expect(summary.render()).toMatch(/Whole step +10.000 ms +100.0 % +15.000 ms/);
  });

  it("says that there was nothing", () => {
    expect(new StepSummary().render()).toBe("No step was computed.");
  });
});

describe("the recorder of spans", () => {
  it("keeps names, details and order, as many as there are", () => {
    const recorder = new SpanRecorder();
    recorder.begin("compute");
    for (let layer = 0; layer < 1000; layer++) {
      recorder.begin("attention", layer);
      recorder.end();
    }
    recorder.end();
    const spans = listSpans(recorder.take());
    expect(spans.map(({ name }) => name)).toEqual(["compute", ...Array(1000).fill("attention")]);
    expect(spans.slice(1).map(({ detail }) => detail)).toEqual([...Array(1000).keys()]);
    const [compute, first] = spans;
    expect(first!.beginUs).toBeGreaterThanOrEqual(compute!.beginUs);
    expect(spans.at(-1)!.endUs).toBeLessThanOrEqual(compute!.endUs);
    expect(recorder.take()).toHaveLength(0);
  });

  it("forgets what never ended", () => {
    const recorder = new SpanRecorder();
    recorder.begin("step");
    recorder.begin("sample");
    recorder.end();
    recorder.begin("dense", 7);
    expect(listSpans(recorder.take()).map(({ name }) => name)).toEqual(["sample"]);
    recorder.end();
    expect(recorder.take()).toHaveLength(0);
  });
});
