// ucm beside llama.cpp, in turns: time to first token, decode speed, and decode speed of a batch, for the same
// weights, prompts and threads. README.md beside this file says what is compared and how.
//
//   npm run build && npm ci --prefix test/perf/peers
//   node test/perf/peers/compare.mjs [--json FILE] [--lengths 512,4096,16384] [--repeats 3] …
//
// Short cases come first; each run is written to FILE at once, and a second call with the same settings
// goes on where the first one ended.

import { existsSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { cpus, loadavg } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { measureRoofs } from "../../../dist/cli/bench/roofs.js";
import { configureLog } from "../../../dist/log/index.js";
import { qwen25Half } from "../shapes.mjs";
import { startDense, startLlama, startSparse } from "./contenders.mjs";
import { makeGguf, makeModelFolder } from "./model-files.mjs";
import { compareAnswer, generateWithLogprobs } from "./parity.mjs";
import { describe, Results } from "./results.mjs";

const { values } = parseArgs({
  options: {
    lengths: { type: "string", default: "512,4096,16384" },
    batch: { type: "string", default: "16x1024" },
    repeats: { type: "string", default: "3" },
    threads: { type: "string", default: "2" },
    steps: { type: "string", default: "48" },
    ratios: { type: "string", default: "0.3,0.1" },
    quantizations: { type: "string", default: "Q8_0,Q4_0" },
    flash: { type: "string", default: "on,off" },
    "llama-batch": { type: "string", default: "512" },
    engines: { type: "string", default: "ucm,esa,llama" },
    only: { type: "string" },
    seconds: { type: "string", default: "300" },
    folder: { type: "string", default: "/tmp/ucm-peers" },
    modules: { type: "string", default: import.meta.dirname },
    json: { type: "string" },
  },
});
const list = (text) => text.split(",").filter((part) => part !== "");
const numbers = (text) => list(text).map(Number);
const options = {
  threads: Number(values.threads),
  steps: Number(values.steps),
  ratios: numbers(values.ratios),
  quantizations: list(values.quantizations),
  flash: list(values.flash),
  llamaBatch: Number(values["llama-batch"]),
  folder: values.folder,
  modules: values.modules,
};
const engines = list(values.engines);
configureLog({ stream: process.stderr, level: "WARNING" });

/** About how long a case takes, in any unit. */
const cost = ({ length, batch }) => batch * length * (1 + length / 4096);

function listCases() {
  const single = numbers(values.lengths).map((length) => ({
    name: String(length),
    length,
    batch: 1,
  }));
  const batches = list(values.batch).map((name) => {
    const [batch, length] = name.split("x").map(Number);
    return { name, length, batch };
  });
  const only = values.only === undefined ? null : list(values.only);
  return [...single, ...batches]
    .filter(({ name }) => only === null || only.includes(name))
    .sort((a, b) => cost(a) - cost(b));
}

/** The same token ids for every contender in a round of a case, and others in every other round. */
function makePrompts({ length, batch }, round) {
  let state = (length * 1000003 + batch * 10007 + round * 101 + 1) >>> 0;
  const next = () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % qwen25Half.vocab_size;
  };
  return Array.from({ length: batch }, () => Array.from({ length }, next));
}

/** Version of a package as it is found from a folder, however its node_modules are laid out. */
function installedVersion(folder, name) {
  const places = createRequire(join(folder, "package.json")).resolve.paths(name);
  const files = places.map((place) => join(place, name, "package.json"));
  const file = files.find((it) => existsSync(it));
  if (file === undefined) throw new Error(`${name} is not installed in ${folder}: see README.md`);
  return JSON.parse(readFileSync(file, "utf8")).version;
}

function describeSetup() {
  const root = join(import.meta.dirname, "../../..");
  const { threads, steps, ratios, llamaBatch } = options;
  return {
    processor: cpus()[0].model,
    cores: cpus().length,
    ...{ threads, steps, ratios, llamaBatch },
    isa: process.env.UCM_CPU_ISA ?? "best",
    node: process.version,
    onnxruntime: installedVersion(root, "onnxruntime-node"),
    shape: qwen25Half,
  };
}

async function startContenders(cases) {
  const contenders = [];
  let peer = null;
  if (engines.includes("ucm")) contenders.push(await startDense(options, cases));
  if (engines.includes("esa")) contenders.push(await startSparse(options, cases));
  if (engines.includes("llama")) {
    for (const quantization of options.quantizations) makeGguf(options.folder, quantization);
    const nodeLlamaCpp = installedVersion(options.modules, "node-llama-cpp");
    peer = await startLlama({ ...options, facts: { nodeLlamaCpp } });
    contenders.push(...peer.contenders);
    const { backend, systemInfo } = peer.llama.info;
    console.error(`llama.cpp loaded ${backend}: ${systemInfo.trim()}`);
  }
  const stop = async () => {
    for (const contender of contenders) await contender.stop();
    peer?.llama.stop();
  };
  return { contenders, llama: peer?.llama ?? null, stop };
}

/**
 * Whether both engines compute the same model, with their weights in int8 and Q8_0: greedy tokens of ucm, and
 * the log-probabilities of both. parity.mjs does it in fp32, where they agree to rounding.
 */
async function checkParity(results, { engine }, llama) {
  const [prompt] = makePrompts({ length: 80, batch: 1 }, 0);
  const answer = await generateWithLogprobs(engine, prompt, 8);
  await llama.call("load", { path: makeGguf(options.folder, "Q8_0") });
  results.addParity(await compareAnswer(llama, prompt, answer, options));
}

/** Whether a contender has had its rounds of a case, or has no time left for another. */
function isDone(results, it, contender, round) {
  const runs = results.runsOf(it.name, contender.name);
  const spent = runs.reduce((sum, { seconds }) => sum + seconds, 0);
  return runs.length > round || (runs.length > 0 && spent > Number(values.seconds));
}

async function runRound(results, it, contenders, round) {
  const due = contenders.filter((contender) => !isDone(results, it, contender, round));
  if (due.length === 0) return;
  results.addRoof(await measureRoofs(options.threads));
  const prompts = makePrompts(it, round);
  const { name, length, batch } = it;
  for (const contender of due) {
    const beginMs = performance.now();
    const measures = await contender.run({ length, batch, prompts });
    const seconds = (performance.now() - beginMs) / 1000;
    const where = { case: name, length, batch, contender: contender.name, round };
    results.addRun({ ...where, seconds, load: loadavg()[0], measures });
    const told = measures.map((it) => `${it.name} ${it.metric} ${it.ms.toFixed(1)} ms`);
    console.error(`${name} round ${round + 1}, ${seconds.toFixed(0)} s: ${told.join(", ")}`);
  }
}

const cases = listCases();
if (cases.length === 0) throw new Error("--only leaves no case");
const results = new Results(values.json, describeSetup());
makeModelFolder(options.folder);
const { contenders, llama, stop } = await startContenders(cases);
try {
  const dense = contenders.find(({ name }) => name === "ucm");
  if (dense !== undefined && llama !== null && results.data.parity === undefined) {
    await checkParity(results, dense, llama);
  }
  for (const { name, facts } of contenders) results.addFacts(name, facts);
  for (const it of cases) {
    for (let round = 0; round < Number(values.repeats); round++) {
      await runRound(results, it, contenders, round);
    }
  }
} finally {
  await stop();
}
console.log(describe(results.data));
