// Sparse attention (ESA) beside dense, in the whole engine at Qwen2.5-0.5B's shape with random weights:
// tokens per second and attention of decode steps, blocks of the arena, requests that fit at once, and
// the machine's roof measured in the same run.
//
//   npm run build && node test/perf/esa.mjs [--contexts 4096,16384] [--batches 1,8] [--ratios 0.3,0.1]
//     [--tokens 40] [--most-tokens 32768] [--fit-context 512] [--arena-gib 1] [--threads 2]
//     [--quantization int8|int4|none] [--json]
//
// Cases of more than `--most-tokens` tokens of prompts (context x batch) are left out.
//
// Every prompt is computed once, and each run finds it in the prefix cache or in the store. The ratio
// is the scheduler's alone, so one engine serves all of them. A run is of `--tokens` decode steps:
//   dense    sparse attention configured, but not for these requests (ratio 1)
//   watched  requests on their way into it, held there: they attend all their blocks, timed by the worker
//   sparse   the same requests, once they have entered; the step in which they enter is told apart
// TTFT is of the prompt's first computation, with descriptions and store; the ratio has no part in it.

import { parseArgs } from "node:util";
import { bytesPerBlock } from "../../dist/config/kv-size.js";
import { configureLog } from "../../dist/log/index.js";
import { defaultSamplingParams } from "../../dist/messages/index.js";
import { sparseBudget } from "../../dist/sparse/index.js";
import { measure, median, randomPrompt, roofLine, startEngine } from "./engine.mjs";
import { StepRecord } from "./esa-record.mjs";

const { values } = parseArgs({
  options: {
    contexts: { type: "string", default: "4096,16384" },
    batches: { type: "string", default: "1,8" },
    ratios: { type: "string", default: "0.3,0.1" },
    tokens: { type: "string", default: "40" },
    "most-tokens": { type: "string", default: "32768" },
    "fit-context": { type: "string", default: "512" },
    "arena-gib": { type: "string", default: "1" },
    threads: { type: "string", default: "2" },
    quantization: { type: "string", default: "int8" },
    json: { type: "boolean", default: false },
  },
});
const list = (text) => text.split(",").map(Number);
const contexts = list(values.contexts);
const ratios = list(values.ratios);
const tokens = Number(values.tokens);
const mostTokens = Number(values["most-tokens"]);
const fitContext = Number(values["fit-context"]);
/** Of the answers that share an arena. */
const fitOutput = 64;
/** More than any run decodes until it has seen its steps. */
const maxOutput = 8 * tokens + 256;
const shape = { numLayers: 24, numKvHeads: 2, headDim: 64 };
const mean = (numbers) => numbers.reduce((sum, value) => sum + value, 0) / numbers.length;

configureLog({ stream: process.stderr, level: "WARNING" });
const results = { cases: [], fits: [] };
const say = (line) => values.json || console.log(line);

async function startSparse(numBlocks, maxModelLen) {
  const record = new StepRecord();
  const extra = { ucm_sparse_method: "ESA", load_decision: "always" };
  const transfer = {
    kv_connector: "UnifiedCacheConnectorV1",
    kv_role: "kv_both",
    kv_connector_extra_config: extra,
  };
  const server = await startEngine(
    [
      ...["--max-model-len", String(maxModelLen), "--cpu-cores-per-worker", values.threads],
      ...["--hf-overrides", JSON.stringify({ max_position_embeddings: maxModelLen })],
      ...["--num-gpu-blocks-override", String(numBlocks)],
      ...["--kv-transfer-config", JSON.stringify(transfer)],
      ...(values.quantization === "none" ? [] : ["--quantization", values.quantization]),
    ],
    {
      wrap: record.wrap,
      // What the flags give is frozen, and the ratio is to change between requests.
      adapt: (config) => ({
        ...config,
        sparse: { ...config.sparse, window: { ...config.sparse.window } },
      }),
    },
  );
  record.engine = server.engine;
  return { ...server, record };
}

async function generateAll(engine, prompts, maxTokens, signal) {
  const sampling = { ...defaultSamplingParams, temperature: 0, ignoreEos: true, maxTokens };
  return Promise.all(
    prompts.map(async (promptTokenIds, i) => {
      const request = { requestId: `perf-${i}`, promptTokenIds, sampling, priority: 0 };
      const rest = { cacheSalt: null, detokenize: false };
      let cached = 0;
      for await (const output of engine.generate({ ...request, ...rest }, signal)) {
        cached = output.numCachedTokens;
      }
      return cached;
    }),
  );
}

/** Decodes until `tokens` steps of the last of `kinds` were seen; the steps of each kind. */
async function decode({ engine, record, config }, prompts, ratio, kinds) {
  config.sparse.window.ratio = ratio;
  const enough = new AbortController();
  record.start({
    holdSteps: kinds.includes("watched") ? tokens : 0,
    numSequences: prompts.length,
    onStep: () => {
      if (record.of(kinds.at(-1)).length >= tokens) enough.abort();
    },
  });
  const numCached = await generateAll(engine, prompts, maxOutput, enough.signal);
  const leastCached = Math.min(...numCached);
  if (leastCached < prompts[0].length - 2 * config.cache.blockSize) {
    throw new Error(`only ${leastCached} tokens of a prompt were found again`);
  }
  if (!enough.signal.aborted)
    throw new Error(`fewer than ${tokens} ${kinds.at(-1)} steps were seen`);
  return kinds.map((kind) => summarize(record.of(kind), prompts.length));
}

function summarize(steps, batch) {
  const of = (name) => mean(steps.map((step) => step[name]));
  return {
    steps: steps.length,
    stepMs: of("wallMs"),
    medianStepMs: median(steps.map(({ wallMs }) => wallMs)),
    tokensPerSecond: (1000 * batch) / of("wallMs"),
    attentionMs: of("attentionMs"),
    medianAttentionMs: median(steps.map(({ attentionMs }) => attentionMs)),
    ...Object.fromEntries(
      ["selectMs", "loadMs", "waitMs", "switchMs"].map((name) => [name, of(name)]),
    ),
    blocksPerSequence: steps.at(-1).usedBlocks / batch,
    positions: steps.at(-1).positions,
  };
}

/** Blocks that UCM's estimate of slots comes to, `output` counting the token that is computed. */
function ucmBlocks({ blockSize, window: { init, local, minBlocks, ratio } }, prompt, output) {
  if (prompt < blockSize * minBlocks) return Math.ceil((prompt + output) / blockSize);
  const topK = Math.floor((Math.ceil(prompt / blockSize) - init - local) * ratio);
  const lastTokens = (prompt % blockSize || blockSize) + blockSize * (local - 1);
  return Math.ceil(((init + topK) * blockSize + lastTokens + output) / blockSize);
}

async function runCase(server, prompts, ttftMs) {
  const context = prompts[0].length;
  const batch = prompts.length;
  const { config } = server;
  say(`\n${context} tokens, batch ${batch}: TTFT ${ttftMs.toFixed(0)} ms, when nothing is cached`);
  const [dense] = await decode(server, prompts, 1, ["dense"]);
  const kvBytes = bytesPerBlock(shape, config.cache.blockSize, config.cache.kvDtype);
  const blocks = (count) => `${count.toFixed(1)} blocks each`;
  say(
    `  dense       ${dense.tokensPerSecond.toFixed(1).padStart(6)} tok/s, step ${dense.stepMs.toFixed(2)} ms, ${blocks(dense.blocksPerSequence)}`,
  );
  for (const ratio of ratios) {
    const [watched, sparse] = await decode(server, prompts, ratio, ["watched", "sparse"]);
    const entryMs = server.record.steps.find(({ hasEntry }) => hasEntry)?.wallMs ?? null;
    const { positions } = sparse;
    const ucm = mean(
      positions.map((end) =>
        ucmBlocks({ ...config.cache, ...config.sparse }, context, end - context),
      ),
    );
    const ownMs = sparse.attentionMs + sparse.switchMs + sparse.waitMs;
    const read = (mean(watched.positions) / config.cache.blockSize) * kvBytes * batch;
    const inputs = { context, batch, ratio, ttftMs };
    results.cases.push({ ...inputs, entryMs, ucmBlocks: ucm, dense, watched, sparse });
    say(
      `  ratio ${ratio.toFixed(2)}  ${sparse.tokensPerSecond.toFixed(1).padStart(6)} tok/s, step ${sparse.stepMs.toFixed(2)} ms, ${blocks(sparse.blocksPerSequence)} (UCM's formula: ${ucm.toFixed(1)}); ${(sparse.tokensPerSecond / dense.tokensPerSecond).toFixed(2)}x dense; enters in ${entryMs?.toFixed(1)} ms`,
    );
    say(
      `    attention per step: dense ${watched.attentionMs.toFixed(2)} ms (${(read / watched.attentionMs / 1e6).toFixed(1)} GB/s of KV), sparse ${sparse.attentionMs.toFixed(2)} ms + switch ${sparse.switchMs.toFixed(2)} + wait ${sparse.waitMs.toFixed(2)} = ${(watched.attentionMs / ownMs).toFixed(1)}x faster; beside it select ${sparse.selectMs.toFixed(2)}, load ${sparse.loadMs.toFixed(2)}`,
    );
  }
}

/** Requests of a length that an arena holds at once, answers of `output` tokens included. */
function countFits(config, ratio, numBlocks, context, output) {
  const { blockSize } = config.cache;
  const whole = Math.ceil((context + output) / blockSize);
  const sparse = { ...config.sparse, window: { ...config.sparse.window, ratio } };
  const budget = sparseBudget(sparse, context, blockSize);
  if (budget === null) return Math.floor(numBlocks / whole);
  // A prompt is in the arena as a whole until it has become sparse; the last one needs that room.
  const kept = whole - budget.candidates + budget.topK;
  return numBlocks < whole ? 0 : 1 + Math.floor((numBlocks - whole) / kept);
}

function tellFits({ cache, sparse }) {
  const bytes = Number(values["arena-gib"]) * 2 ** 30;
  const context = 16384;
  const fits = [null, ...ratios].map((ratio) => {
    const perBlock = bytesPerBlock(shape, cache.blockSize, cache.kvDtype, ratio && sparse);
    const numBlocks = Math.floor(bytes / perBlock);
    return {
      ratio: ratio ?? 1,
      fits: countFits({ cache, sparse }, ratio ?? 1, numBlocks, context, fitOutput),
    };
  });
  results.fits.push({ how: "computed", arenaGib: Number(values["arena-gib"]), context, fits });
  const told = fits.map((it) => `${it.ratio === 1 ? "dense" : `ratio ${it.ratio}`} ${it.fits}`);
  say(
    `\n${context}-token requests at once in ${values["arena-gib"]} GiB of arena, by the scheduler's budget: ${told.join(", ")}`,
  );
}

/** Some requests more than fit at once with whole answers, in an arena of four dense ones. */
async function runFits() {
  const numBlocks = 4 * Math.ceil((fitContext + fitOutput) / 16);
  const server = await startSparse(numBlocks, fitContext + fitOutput);
  const told = [];
  for (const ratio of [1, ...ratios]) {
    server.config.sparse.window.ratio = ratio;
    const computed = countFits(server.config, ratio, numBlocks, fitContext, fitOutput);
    server.record.start({ holdSteps: 0, numSequences: 0 });
    const before = server.engine.stats().numPreemptions;
    const prompts = Array.from({ length: computed + 4 }, () => randomPrompt(fitContext));
    await generateAll(server.engine, prompts, fitOutput);
    const decoding = server.record.steps.filter(({ kind }) => kind !== "prompt");
    const ran = Math.max(...decoding.map(({ numScheduled }) => numScheduled));
    const preemptions = server.engine.stats().numPreemptions - before;
    results.fits.push({
      how: "run",
      numBlocks,
      context: fitContext,
      ratio,
      computed,
      ran,
      preemptions,
    });
    told.push(
      `${ratio === 1 ? "dense" : `ratio ${ratio}`} ${ran} (computed ${computed}, ${preemptions} preemptions)`,
    );
  }
  await server.stop();
  say(
    `${fitContext}-token requests seen decoding at once in ${numBlocks} blocks, beside those computed for whole answers of ${fitOutput}, four more being there: ${told.join(", ")}`,
  );
}

const cases = contexts.flatMap((context) =>
  list(values.batches).map((batch) => ({ context, batch, isRun: context * batch <= mostTokens })),
);
const runs = cases.filter(({ isRun }) => isRun);
if (runs.length === 0) throw new Error("--most-tokens leaves no case");
const numPrompts = (context) =>
  Math.max(0, ...runs.filter((it) => it.context === context).map(({ batch }) => batch));
const perPrompt = (context) => Math.ceil((context + maxOutput) / 16) + 1;
const server = await startSparse(
  Math.max(...runs.map(({ context, batch }) => batch * perPrompt(context))),
  Math.max(...contexts) + maxOutput,
);
const { config, ready } = server;
results.setup = {
  quantization: values.quantization,
  threads: config.parallel.threads,
  isa: ready.isa,
};
say(
  `Qwen2.5-0.5B shape, ${values.quantization}, KV ${config.cache.kvDtype}, blocks of ${config.cache.blockSize}, ${config.parallel.threads} threads, ${ready.isa}; ESA: ${config.sparse.score}, stride ${config.sparse.stride}`,
);
await measure(server.engine, randomPrompt(64), 4);
for (const context of contexts.filter((it) => numPrompts(it) > 0)) {
  const prompts = Array.from({ length: numPrompts(context) }, () => randomPrompt(context));
  const ttft = [];
  for (const prompt of prompts) ttft.push((await measure(server.engine, prompt, 1)).ttftMs);
  for (const { batch } of runs.filter((it) => it.context === context)) {
    await runCase(server, prompts.slice(0, batch), median(ttft));
  }
}
tellFits(config);
await server.stop();
await runFits();
const skipped = cases.filter(({ isRun }) => !isRun);
for (const { context, batch } of skipped) {
  say(`left out, above --most-tokens ${mostTokens}: ${context} tokens, batch ${batch}`);
}
results.roof = await roofLine(config.parallel.threads);
say(`roof measured in the same run: ${results.roof}`);
if (values.json) console.log(JSON.stringify({ ...results, skipped }, null, 2));
