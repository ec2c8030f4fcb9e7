import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, it } from "vitest";
import { makeTempFolder } from "../../helpers/temp-folder.js";

const { describe: tell, mergeFiles } = await import(
  new URL("../../perf/peers/results.mjs", import.meta.url).href
);

const setup = { processor: "CPU", threads: 2, node: "v20", onnxruntime: "1.30" };

/** A file of one comparison with a single run of 512 tokens. */
function writeResults(name: string, contender: string, ms: number, rest: object = {}) {
  const path = join(makeTempFolder(), name);
  const measures = [{ name: contender, metric: "ttft", ms }];
  const run = { case: "512", length: 512, batch: 1, contender, round: 0, measures };
  const roofs = [{ threads: 2, readBytesPerS: 30e9 }];
  writeFileSync(path, JSON.stringify({ setup, facts: {}, roofs, runs: [run], ...rest }));
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

it("refuses files of different set-ups, naming what differs", () => {
  const first = writeResults("a.json", "ucm", 100);
  const second = writeResults("b.json", "ucm", 100, { setup: { ...setup, threads: 4 } });
  expect(() => mergeFiles([first, second])).toThrow(
    `${second} is of another set-up than ${first} (threads)`,
  );
});
