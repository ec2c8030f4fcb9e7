import { mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { makeTempFolder } from "../helpers/temp-folder.js";
import { runUcm } from "../helpers/ucm-command.js";

interface TraceEvent {
  name: string;
  ph: string;
  pid: number;
  ts: number;
  dur: number;
  args?: { layer?: number; name?: string };
}

const demoLayers = (
  JSON.parse(readFileSync("models/ucm-demo/config.json", "utf8")) as { num_hidden_layers: number }
).num_hidden_layers;
const prompt = ["--prompt", "Once upon a time", "--max-tokens", "6", "--ignore-eos"];

function readTrace(path: string) {
  const events = JSON.parse(readFileSync(path, "utf8")) as TraceEvent[];
  const spans = events.filter(({ ph }) => ph === "X");
  return {
    processes: events.filter(({ ph }) => ph === "M").map(({ args }) => args!.name),
    spans,
    of: (pid: number, name: string) => spans.filter((s) => s.pid === pid && s.name === name),
  };
}

const isWithin = (inner: TraceEvent, outer: TraceEvent) =>
  inner.ts >= outer.ts && inner.ts + inner.dur <= outer.ts + outer.dur;

/** Columns of the table at the end: milliseconds per decode step by label. */
function decodeColumn(stderr: string): Map<string, number> {
  const lines = stderr.slice(stderr.indexOf("Per step")).split("\n");
  const cells = lines.map((line) => line.match(/^(\S.*?) {2,}.*?([\d.]+) ms +[\d.]+ %$/));
  return new Map(cells.flatMap((cell) => (cell ? [[cell[1]!, Number(cell[2])]] : [])));
}

describe("ucm offline --profile", () => {
  it.each([1, 2])("writes spans of engine and %i ranks that a browser can open", async (ranks) => {
    const path = join(makeTempFolder(), "trace.json");
    const { exitCode, stderr } = await runUcm(
      ["offline", ...prompt, "--profile", path, "-tp", String(ranks)],
      { UCM_CPU_CORES_PER_WORKER: "1" },
    );
    expect(stderr).toContain(`Profile: ${path}`);
    expect(exitCode).toBe(0);
    const trace = readTrace(path);
    const workers = Array.from({ length: ranks }, (_, rank) => `Worker_TP${rank}`);
    expect(trace.processes).toEqual(["Engine", ...workers]);
    const steps = trace.of(0, "engine step");
    expect(steps).toHaveLength(6);
    for (let pid = 1; pid <= ranks; pid++) {
      const ofWorker = trace.of(pid, "step");
      expect(ofWorker).toHaveLength(6);
      // One clock: a worker's step lies in the engine's.
      for (const [i, step] of ofWorker.entries()) expect(isWithin(step, steps[i]!)).toBe(true);
      for (const step of ofWorker) {
        const layers = trace.of(pid, "attention").filter((span) => isWithin(span, step));
        const expected = [...Array(demoLayers).keys()];
        expect(layers.map(({ args }) => args!.layer)).toEqual(expected);
        const dense = trace.of(pid, "dense").filter((span) => isWithin(span, step));
        expect(dense).toHaveLength(demoLayers + 1);
      }
      expect(trace.of(pid, "exchange with ranks").length > 6).toBe(ranks > 1);
    }
    for (let pid = 0; pid <= ranks; pid++) expectNested(trace.spans.filter((s) => s.pid === pid));
    const column = decodeColumn(stderr);
    const whole = column.get("Whole step")!;
    column.delete("Whole step");
    const sum = [...column.values()].reduce((a, b) => a + b, 0);
    expect(Math.abs(sum - whole)).toBeLessThan(0.001 * column.size);
    expect(column.size).toBe(11);
  });

  it("refuses a file that cannot be written before the model is loaded", async () => {
    const folder = join(makeTempFolder(), "folder");
    mkdirSync(folder);
    const { exitCode, stderr } = await runUcm(["offline", ...prompt, "--profile", folder]);
    expect(stderr).toContain(`Cannot write the profile ${folder}: EISDIR`);
    expect(exitCode).toBe(2);
  });

  it("says nothing of it when it is not asked for", async () => {
    const { stderr } = await runUcm(["offline", ...prompt]);
    expect(stderr).not.toContain("Per step");
  });
});

/** Of two spans of a process that overlap, one lies within the other. */
function expectNested(spans: readonly TraceEvent[]): void {
  const open: TraceEvent[] = [];
  for (const span of [...spans].sort((a, b) => a.ts - b.ts || b.dur - a.dur)) {
    while (open.length > 0 && open.at(-1)!.ts + open.at(-1)!.dur <= span.ts) open.pop();
    const outer = open.at(-1);
    if (outer !== undefined && !isWithin(span, outer)) {
      throw new Error(`${span.name} at ${span.ts} ends after ${outer.name}, which it began in`);
    }
    open.push(span);
  }
}
