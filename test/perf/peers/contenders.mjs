// The engines that are compared. Each is `{name, run({length, batch, prompts}), stop()}`; a run gives measures
// `{name, metric, ms, …}`: `ttft` of one prompt, and `decode`, the mean time of a step in which every
// sequence gets one token.

import { setMaxListeners } from "node:events";
import { defaultSamplingParams } from "../../../dist/messages/index.js";
import { measure, median, startEngine } from "../engine.mjs";
import { StepRecord } from "../esa-record.mjs";
import { Llama } from "./llama.mjs";
import { makeGguf } from "./model-files.mjs";

const mean = (numbers) => numbers.reduce((sum, value) => sum + value, 0) / numbers.length;

/** Steps before those that are measured. */
const WARM_STEPS = 4;

function decodeMeasure(name, stepMs, rest = {}) {
  return { name, metric: "decode", ms: mean(stepMs), medianMs: median(stepMs), ...rest };
}

/** Answers that ucm needs at most until it has seen its steps, with prompts computed in between. */
const maxOutput = (steps) => 8 * steps + 256;

/**
 * Prompts through an engine of ucm until `steps` steps of a kind were seen with all of them; times to first
 * token, and of the steps.
 */
async function generate({ engine, record }, prompts, kind, steps) {
  const enough = new AbortController();
  setMaxListeners(prompts.length + 1, enough.signal);
  record.start({
    holdSteps: 0,
    numSequences: prompts.length,
    onStep: () => {
      if (record.of(kind).length >= steps + WARM_STEPS) enough.abort();
    },
  });
  const sampling = {
    ...defaultSamplingParams,
    temperature: 0,
    ignoreEos: true,
    maxTokens: maxOutput(steps),
  };
  const ttftMs = await Promise.all(
    prompts.map(async (promptTokenIds, i) => {
      let times;
      const request = { requestId: `peers-${i}`, promptTokenIds, sampling };
      const rest = { priority: 0, cacheSalt: null, detokenize: false };
      for await (const output of engine.generate({ ...request, ...rest }, enough.signal)) {
        times = output.times;
      }
      return times.firstTokenMs - times.arrivalMs;
    }),
  );
  if (!enough.signal.aborted) throw new Error(`ucm: fewer than ${steps} ${kind} steps were seen`);
  const seen = record.of(kind).slice(WARM_STEPS);
  return { ttftMs, stepMs: seen.map(({ wallMs }) => wallMs) };
}

/** Flags of `ucm` that its engines start with, sized for the longest case. */
function ucmFlags({ threads, steps }, cases) {
  const perSequence = ({ length }) => Math.ceil((length + maxOutput(steps)) / 16) + 1;
  const numBlocks = Math.max(...cases.map((it) => it.batch * perSequence(it)));
  const maxLength = Math.max(...cases.map(({ length }) => length)) + maxOutput(steps);
  return [
    ...["--quantization", "int8", "--cpu-cores-per-worker", String(threads)],
    ...["--max-model-len", String(maxLength), "--num-gpu-blocks-override", String(numBlocks)],
    // Answers of the longest prompt go beyond the shape's own 32k.
    ...["--hf-overrides", JSON.stringify({ max_position_embeddings: maxLength })],
  ];
}

async function startUcm(args, model, adapt) {
  const record = new StepRecord();
  const server = await startEngine(args, { model, wrap: record.wrap, adapt });
  record.engine = server.engine;
  const warm = Array.from({ length: 64 }, (_, i) => i);
  await measure(server.engine, warm, 4);
  return { ...server, record };
}

/** ucm with int8 weights, dense attention. */
export async function startDense(options, cases) {
  const server = await startUcm(ucmFlags(options, cases), options.folder);
  return {
    name: "ucm",
    engine: server.engine,
    facts: ucmFacts(server),
    async run({ batch, prompts }) {
      const { ttftMs, stepMs } = await generate(server, prompts, "dense", options.steps);
      const ttft = batch === 1 ? [{ name: "ucm", metric: "ttft", ms: ttftMs[0] }] : [];
      return [...ttft, decodeMeasure("ucm", stepMs)];
    },
    stop: server.stop,
  };
}

const ucmFacts = ({ ready, config }) => ({
  isa: ready.isa,
  weightBytes: ready.weightBytes,
  kvDtype: config.cache.kvDtype,
  blockSize: config.cache.blockSize,
  maxNumBatchedTokens: config.scheduler?.maxNumBatchedTokens ?? null,
});

/** ucm with int8 weights and ESA; after its first ratio, a prompt is found in the store. */
export async function startSparse(options, cases) {
  const transfer = {
    kv_connector: "UnifiedCacheConnectorV1",
    kv_role: "kv_both",
    kv_connector_extra_config: { ucm_sparse_method: "ESA", load_decision: "always" },
  };
  const server = await startUcm(
    [...ucmFlags(options, cases), "--kv-transfer-config", JSON.stringify(transfer)],
    options.folder,
    // What the flags give is frozen, and the ratio is to change between requests.
    (config) => ({ ...config, sparse: { ...config.sparse, window: { ...config.sparse.window } } }),
  );
  return {
    name: "ucm-esa",
    facts: ucmFacts(server),
    async run({ batch, prompts }) {
      const measures = [];
      for (const ratio of options.ratios) {
        server.config.sparse.window.ratio = ratio;
        const { ttftMs, stepMs } = await generate(server, prompts, "sparse", options.steps);
        if (ratio === options.ratios[0] && batch === 1) {
          measures.push({ name: "ucm ESA", metric: "ttft", ms: ttftMs[0] });
        }
        measures.push(decodeMeasure(`ucm ESA ${ratio}`, stepMs));
      }
      return measures;
    },
    stop: server.stop,
  };
}

/** llama.cpp's settings: every quantization with flash attention and without. */
export function llamaSettings({ quantizations, flash }) {
  return quantizations.flatMap((quantization) =>
    flash.map((name) => ({
      name: `llama.cpp ${quantization} ${name === "on" ? "flash" : "plain"}`,
      quantization,
      flashAttention: name === "on",
    })),
  );
}

async function runLlama(
  llama,
  setting,
  { threads, steps, llamaBatch },
  { length, batch, prompts },
) {
  const { name, flashAttention } = setting;
  const contextSize = length + WARM_STEPS + steps + 1;
  await llama.call("open", {
    ...{ contextSize, sequences: batch, flashAttention, batch: llamaBatch, threads },
  });
  // The first batch of a context touches its memory for the first time.
  await llama.call("prefill", { sequence: 0, tokens: prompts[0].slice(0, llamaBatch).reverse() });
  await llama.call("clear", { sequence: 0 });
  const tokens = [];
  let ttftMs;
  for (const [sequence, prompt] of prompts.entries()) {
    const { ms, token } = await llama.call("prefill", { sequence, tokens: prompt });
    ttftMs = ms;
    tokens.push(token);
  }
  const decoded = await llama.call("decode", {
    position: length,
    tokens,
    steps: WARM_STEPS + steps,
  });
  await llama.call("close");
  const drawMs = mean(decoded.drawMs.slice(WARM_STEPS));
  const ttft = batch === 1 ? [{ name, metric: "ttft", ms: ttftMs }] : [];
  return [...ttft, decodeMeasure(name, decoded.stepMs.slice(WARM_STEPS), { drawMs })];
}

/** One process of llama.cpp and a contender per setting; a setting's model is loaded when its turn comes. */
export async function startLlama(options) {
  const { modules, threads, folder } = options;
  const llama = await Llama.start({ modules, threads });
  let loaded;
  const contenders = llamaSettings(options).map((setting) => ({
    name: setting.name,
    facts: { ...options.facts, ...llama.info },
    async run(job) {
      if (loaded !== setting.quantization) {
        await llama.call("load", { path: makeGguf(folder, setting.quantization) });
        loaded = setting.quantization;
      }
      return runLlama(llama, setting, options, job);
    },
    async stop() {},
  }));
  return { llama, contenders };
}
