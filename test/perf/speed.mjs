// Prefill and decode speed of the whole engine (parent, IPC, worker) at a model's shape with random
// weights, beside the machine's roof measured in the same run.
//
//   npm run build && node test/perf/speed.mjs [--quantization int8|int4|none] [--prompt 512] [--decode 64]

import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { execa } from "execa";
import { readCommandLine } from "../../dist/cli/command-flags.js";
import { resolveEngineConfig } from "../../dist/config/index.js";
import { Engine } from "../../dist/engine/index.js";
import { launchWorkers } from "../../dist/launcher/index.js";
import { defaultSamplingParams } from "../../dist/messages/index.js";
import { qwen25Half } from "./shapes.mjs";

const { values } = parseArgs({
  options: {
    quantization: { type: "string", default: "int8" },
    prompt: { type: "string", default: "512" },
    decode: { type: "string", default: "64" },
    repeats: { type: "string", default: "5" },
  },
});
const promptTokens = Number(values.prompt);
const decodeTokens = Number(values.decode);
const repeats = Number(values.repeats);

const median = (numbers) => [...numbers].sort((a, b) => a - b)[Math.floor(numbers.length / 2)];

/** Distinct random tokens, so that no cache could help. */
function randomPrompt(length) {
  return Array.from({ length }, () => Math.floor(Math.random() * qwen25Half.vocab_size));
}

/** Time to first token and mean time per further token of one greedy request, ms. */
async function measure(engine, promptTokenIds, maxTokens) {
  const sampling = { ...defaultSamplingParams, temperature: 0, ignoreEos: true, maxTokens };
  const request = {
    requestId: "perf",
    promptTokenIds,
    sampling,
    priority: 0,
    cacheSalt: null,
    detokenize: false,
  };
  let times;
  for await (const output of engine.generate(request)) times = output.times;
  return {
    ttftMs: times.firstTokenMs - times.arrivalMs,
    tpotMs: (times.lastTokenMs - times.firstTokenMs) / Math.max(1, maxTokens - 1),
  };
}

/** Peak and present resident memory of a process, bytes. */
function residentBytes(pid) {
  const status = readFileSync(`/proc/${pid}/status`, "utf8");
  const read = (key) => Number(status.match(new RegExp(`${key}:\\s+(\\d+) kB`))[1]) * 1024;
  return { peak: read("VmHWM"), now: read("VmRSS") };
}

const folder = mkdtempSync(join(tmpdir(), "ucm-perf-"));
writeFileSync(join(folder, "config.json"), JSON.stringify(qwen25Half));
const { flags } = await readCommandLine(
  "offline",
  [
    folder,
    ...["--load-format", "dummy", "--skip-tokenizer-init", "--max-model-len", "4096"],
    ...(values.quantization === "none" ? [] : ["--quantization", values.quantization]),
  ],
  { env: process.env, cwd: folder },
);
const config = resolveEngineConfig({ ...flags, model: folder });
const workers = await launchWorkers(config);
const { ready } = workers;
const pids = await execa("pgrep", ["-P", String(process.pid)], { reject: false });
const memory = residentBytes(pids.stdout.split("\n")[0]);
const engine = new Engine({ config, executor: workers.executor, tokenizer: null });
await measure(engine, randomPrompt(promptTokens), 4);
const prefill = [];
const decode = [];
for (let i = 0; i < repeats; i++) {
  prefill.push((await measure(engine, randomPrompt(promptTokens), 1)).ttftMs);
  decode.push((await measure(engine, randomPrompt(32), decodeTokens)).tpotMs);
}
await workers.shutdown();
rmSync(folder, { recursive: true });
const bench = new URL("../../build/native/obj/release/attention_bench", import.meta.url).pathname;
const native = new URL("../../native", import.meta.url).pathname;
await execa("make", ["-C", native, bench]);
const roof = await execa(bench, ["roofs", String(config.parallel.threads)]);

const gib = (bytes) => (bytes / 2 ** 30).toFixed(2);
console.log(
  `Qwen2.5-0.5B shape, ${values.quantization}, ${config.parallel.threads} threads, ${ready.isa}`,
);
console.log(
  `load ${(ready.loadMs / 1000).toFixed(1)} s, weights ${gib(ready.weightBytes)} GiB, peak resident ${gib(memory.peak)} GiB`,
);
console.log(
  `prefill ${promptTokens} tokens: ${median(prefill).toFixed(1)} ms = ${((promptTokens / median(prefill)) * 1000).toFixed(0)} tok/s`,
);
console.log(
  `decode: ${median(decode).toFixed(2)} ms per token = ${(1000 / median(decode)).toFixed(1)} tok/s, reads ${(ready.weightBytes / median(decode) / 1e6).toFixed(1)} GB/s of weights`,
);
console.log(`roof measured in the same run: ${roof.stdout.trim()}`);
