// Prefill and decode speed of the whole engine (parent, IPC, worker) at a model's shape with random
// weights, beside the machine's roof measured in the same run.
//
//   npm run build && node test/perf/speed.mjs [--quantization int8|int4|none] [--prompt 512] [--decode 64]

import { readFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { execa } from "execa";
import { measure, median, randomPrompt, roofLine, startEngine } from "./engine.mjs";

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

/** Peak and present resident memory of a process, bytes. */
function residentBytes(pid) {
  const status = readFileSync(`/proc/${pid}/status`, "utf8");
  const read = (key) => Number(status.match(new RegExp(`${key}:\\s+(\\d+) kB`))[1]) * 1024;
  return { peak: read("VmHWM"), now: read("VmRSS") };
}

const server = await startEngine([
  ...["--max-model-len", "4096"],
  ...(values.quantization === "none" ? [] : ["--quantization", values.quantization]),
]);
const { engine, ready, config } = server;
const pids = await execa("pgrep", ["-P", String(process.pid)], { reject: false });
const memory = residentBytes(pids.stdout.split("\n")[0]);
await measure(engine, randomPrompt(promptTokens), 4);
const prefill = [];
const decode = [];
for (let i = 0; i < repeats; i++) {
  prefill.push((await measure(engine, randomPrompt(promptTokens), 1)).ttftMs);
  decode.push((await measure(engine, randomPrompt(32), decodeTokens)).tpotMs);
}
await server.stop();

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
console.log(`roof measured in the same run: ${await roofLine(config.parallel.threads)}`);
