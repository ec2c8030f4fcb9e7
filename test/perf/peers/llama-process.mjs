// llama.cpp in a process of its own, told by messages what to do: `{id, method, params}` is answered with
// `{id, result}` or `{id, error}`. Models and contexts are made by node-llama-cpp's public interface. Batches
// go through the binding below it, as llama.cpp's own llama-bench feeds them: prompts in pieces of the
// batch size, one call per step for all sequences, so that nothing of the wrapper's queues is timed.

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

let llama;
let library;
let model;
let context;
let sampler;
let batchSize;

/** `modules`: a folder with node_modules in it, where node-llama-cpp is. */
async function start({ modules, threads }) {
  const resolver = createRequire(join(modules, "package.json"));
  library = await import(pathToFileURL(resolver.resolve("node-llama-cpp")).href);
  const lines = [];
  llama = await library.getLlama({
    gpu: false,
    build: "never",
    skipDownload: true,
    maxThreads: threads,
    logLevel: library.LlamaLogLevel.debug,
    logger: (_level, message) => lines.push(message),
  });
  const { release } = llama.llamaCppRelease;
  return { release, backend: loadedBackend(), systemInfo: llama.systemInfo };
}

/** The one of ggml's libraries for processors that was chosen, by what is mapped here. */
function loadedBackend() {
  const maps = readFileSync("/proc/self/maps", "utf8");
  return /libggml-cpu-[^/\n]*\.so/.exec(maps)?.[0] ?? "no libggml-cpu";
}

async function load({ path, useMmap }) {
  await unload();
  model = await llama.loadModel({ modelPath: path, gpuLayers: 0, useMmap });
  sampler = new llama._bindings.AddonSampler(model._model);
  sampler.applyConfig({ temperature: 0 });
}

async function unload() {
  await close();
  await model?.dispose();
  model = undefined;
}

async function open({ contextSize, sequences, flashAttention, batch, threads, kvType }) {
  await close();
  batchSize = Math.min(batch, contextSize);
  context = await model.createContext({
    contextSize,
    sequences,
    batchSize,
    flashAttention,
    threads: { ideal: threads, min: threads },
    experimentalKvCacheKeyType: kvType,
    experimentalKvCacheValueType: kvType,
  });
  context._ctx.setThreads(threads);
}

async function close() {
  await context?.dispose();
  context = undefined;
}

/** Computes `parts` (`{sequence, position, tokens}`) at once; indexes of the logits of each last token. */
async function computeBatch(parts) {
  const binding = context._ctx;
  binding.initBatch(parts.reduce((sum, { tokens }) => sum + tokens.length, 0));
  const indexes = parts.map(({ sequence, position, tokens }) => {
    const last = Uint32Array.of(tokens.length - 1);
    return binding.addToBatch(sequence, position, Uint32Array.from(tokens), last)[0];
  });
  await binding.decodeBatch();
  return indexes;
}

/** From the prompt to its first token, greedily drawn: ms. */
async function prefill({ sequence, tokens }) {
  const beginMs = performance.now();
  let indexes;
  for (let at = 0; at < tokens.length; at += batchSize) {
    const piece = tokens.slice(at, at + batchSize);
    indexes = await computeBatch([{ sequence, position: at, tokens: piece }]);
  }
  const token = await context._ctx.sampleToken(indexes[0], sampler);
  return { ms: performance.now() - beginMs, token };
}

/**
 * Greedy steps of all sequences, which stand at `position` and go on from `tokens`; ms of each step, and of
 * the drawing in it.
 */
async function decode({ position, tokens, steps }) {
  let next = tokens;
  const stepMs = [];
  const drawMs = [];
  for (let step = 0; step < steps; step++) {
    const beginMs = performance.now();
    const indexes = await computeBatch(
      next.map((token, sequence) => ({ sequence, position: position + step, tokens: [token] })),
    );
    const computedMs = performance.now();
    next = await Promise.all(indexes.map((index) => context._ctx.sampleToken(index, sampler)));
    const endMs = performance.now();
    stepMs.push(endMs - beginMs);
    drawMs.push(endMs - computedMs);
  }
  return { stepMs, drawMs };
}

/** Forgets what a sequence holds. */
function clear({ sequence }) {
  context._ctx.disposeSequence(sequence);
}

/** Log-probabilities after `tokens` of the greedy token and of each of `wanted`. */
async function logprobs({ tokens, position, wanted }) {
  const [index] = await computeBatch([{ sequence: 0, position, tokens }]);
  const [token, flat] = await context._ctx.sampleToken(index, sampler, true);
  const probabilities = new Map();
  for (let i = 0; i < flat.length; i += 2) probabilities.set(flat[i], flat[i + 1]);
  return { token, logprobs: wanted.map((it) => Math.log(probabilities.get(it))) };
}

const methods = { start, load, unload, open, close, prefill, decode, clear, logprobs };

process.on("message", async ({ id, method, params }) => {
  try {
    process.send({ id, result: await methods[method](params) });
  } catch (error) {
    process.send({ id, error: String(error?.stack ?? error) });
  }
});
process.on("disconnect", () => process.exit());
