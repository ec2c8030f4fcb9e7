// Two ranks of one thread each against one worker of two threads: prefill and decode at a model's shape
// with random weights. The two take turns, so that what else the machine does meets both.
//
//   npm run build && node test/perf/tp.mjs [--quantization int8|int4|none] [--prompt 512] [--decode 64] [--rounds 5]

import { parseArgs } from "node:util";
import { measure, median, randomPrompt, roofLine, startEngine } from "./engine.mjs";

const { values } = parseArgs({
  options: {
    quantization: { type: "string", default: "int8" },
    prompt: { type: "string", default: "512" },
    decode: { type: "string", default: "64" },
    rounds: { type: "string", default: "5" },
  },
});
const promptTokens = Number(values.prompt);
const decodeTokens = Number(values.decode);

const setups = [
  { name: "TP=1 x 2 threads", ranks: 1, threads: 2 },
  { name: "TP=2 x 1 thread", ranks: 2, threads: 1 },
].map((setup) => ({ ...setup, prefill: [], decode: [], loadMs: 0 }));

async function measureOnce({ ranks, threads, ...result }) {
  const server = await startEngine([
    ...["--max-model-len", "4096", "--gpu-memory-utilization", "0.4"],
    ...["--tensor-parallel-size", String(ranks), "--cpu-cores-per-worker", String(threads)],
    ...(values.quantization === "none" ? [] : ["--quantization", values.quantization]),
  ]);
  try {
    await measure(server.engine, randomPrompt(promptTokens), 4);
    result.prefill.push((await measure(server.engine, randomPrompt(promptTokens), 1)).ttftMs);
    result.decode.push((await measure(server.engine, randomPrompt(32), decodeTokens)).tpotMs);
  } finally {
    await server.stop();
  }
  return server.ready;
}

for (let round = 0; round < Number(values.rounds); round++) {
  for (const setup of setups) setup.ready = await measureOnce(setup);
}

console.log(`Qwen2.5-0.5B shape, ${values.quantization}, ${setups[0].ready.isa}`);
const format = (numbers, digits) =>
  `${median(numbers).toFixed(digits)} ms (${Math.min(...numbers).toFixed(digits)} to ${Math.max(...numbers).toFixed(digits)})`;
for (const { name, prefill, decode, ready } of setups) {
  const gib = (ready.weightBytes / 2 ** 30).toFixed(2);
  console.log(
    `${name.padEnd(16)}  prefill ${promptTokens}: ${format(prefill, 0)}  decode: ${format(decode, 2)} per token  weights per worker: ${gib} GiB`,
  );
}
console.log(`roof measured in the same run: ${await roofLine(2)}`);
