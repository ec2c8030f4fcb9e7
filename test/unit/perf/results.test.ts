import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, it } from "vitest";
import { makeTempFolder } from "../../helpers/temp-folder.js";

const load = (name: string) => import(new URL(`../../perf/${name}`, import.meta.url).href);
const { describe: tell, medianRoof, mergeFiles } = await load("peers/results.mjs");
const { fitGrowth, makeSeries } = await load("chart.mjs");
const { qwen25Half: shape } = await load("shapes.mjs");

const setup = { processor: "CPU", threads: 2, node: "v20", onnxruntime: "1.30", shape };

/** One run of one prompt. */
function run(length: number, contender: string, ms: number) {
  const measures = [{ name: contender, metric: "ttft", ms }];
  return { case: String(length), length, batch: 1, contender, round: 0, measures };
}

/** A file of one comparison with a single run of 512 tokens. */
function writeResults(name: string, contender: string, ms: number, rest: object = {}) {
  const path = join(makeTempFolder(), name);
  const roofs = [{ threads: 2, readBytesPerS: 30e9 }];
  const runs = [run(512, contender, ms)];
  writeFileSync(path, JSON.stringify({ setup, facts: {}, roofs, runs, ...rest }));
  return path;
}

it("tells of files from comparisons side by side as of one", () => {
  const parity = { numTokens: 8, sameGreedy: 7, greatestDifference: 0.1 };
  const backend = "libggml-cpu-zen4.so";
  const peer = { nodeLlamaCpp: "3.21.1", release: "v0.4.0", backend };
  const data = mergeFiles([
    writeResults("a.json", "ucm", 100),
    writeResults("b.json", "ucm", 300, { parity }),
    writeResults("c.json", "llama.cpp Q8_0 plain", 800, { facts: { "llama.cpp": peer } }),
  ]);
  const text = tell(data);
  expect(text).toMatch(/ucm +ttft +200 ms +\(100 to 300, 2 rounds\)/);
  expect(text).toContain("ucm ttft: 4.00x llama.cpp Q8_0 plain");
  expect(text).toContain("7 of 8 positions");
  expect(text).toContain("llama.cpp v0.4.0, libggml-cpu-zen4.so");
  expect(text).toContain("median of 3 in the same run");
});

it("fits growth over lengths at which ucm ran alone, in a file of its own", () => {
  const ttftMs = (length: number) => length + (length / 1000) ** 2;
  const facts = { ucm: { weightBytes: 5e8, kvDtype: "bfloat16" } };
  const roof = { threads: 2, readBytesPerS: 3e10, fp32FlopsPerS: 2e11, int8OpsPerS: 9e11 };
  const beside = [512, 4096, 16384].flatMap((length) => [
    run(length, "ucm", ttftMs(length)),
    run(length, "llama.cpp Q8_0 plain", 3 * ttftMs(length)),
  ]);
  const alone = [run(32768, "ucm", ttftMs(32768))];
  const data = mergeFiles([
    writeResults("a.json", "", 0, { facts, roofs: [roof], runs: beside }),
    writeResults("b.json", "", 0, { facts, roofs: [{ isa: "avx2", ...roof }], runs: alone }),
  ]);
  expect(medianRoof(data)).toEqual(roof);
  const [own, peer, bound] = makeSeries(data).ttft;
  const lengths = [own, peer, bound].map(({ points }) =>
    points.map(({ length }: { length: number }) => length),
  );
  expect(lengths).toEqual([
    [512, 4096, 16384, 32768],
    [512, 4096, 16384],
    [512, 4096, 16384, 32768],
  ]);
  const { linear, quadratic, residual } = fitGrowth(own.points);
  expect(linear).toBeCloseTo(1000, 6);
  expect(quadratic).toBeCloseTo(1, 6);
  expect(residual).toBeLessThan(1e-9);
  expect(tell(data)).not.toMatch(/NaN|undefined/);
});

it("refuses files of different set-ups, naming what differs", () => {
  const first = writeResults("a.json", "ucm", 100);
  const second = writeResults("b.json", "ucm", 100, { setup: { ...setup, threads: 4 } });
  expect(() => mergeFiles([first, second])).toThrow(
    `${second} is of another set-up than ${first} (threads)`,
  );
});
