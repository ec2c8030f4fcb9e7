// Time to first token of a long prompt: computed, found whole in the store's files (in the page cache
// and not), found whole in its memory. Whole engine at Qwen2.5-0.5B's shape with random weights, beside
// the machine's roofs measured in the same run.
//
//   npm run build && node test/perf/store.mjs [--prompt 8192] [--tail 16] [--quantization int8|int4|none]
//     [--folder DIR] [--block-size 16] [--repeats 7]
//
// `--tail` tokens at the end of the prompt are new each time: 16 and less make a full hit.

import { closeSync, mkdtempSync, openSync, readdirSync, readSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import { execa } from "execa";
import { measure, median, randomPrompt, roofLine, startEngine } from "./engine.mjs";

const { values } = parseArgs({
  options: {
    prompt: { type: "string", default: "8192" },
    tail: { type: "string", default: "16" },
    quantization: { type: "string", default: "int8" },
    folder: { type: "string", default: tmpdir() },
    "block-size": { type: "string", default: "16" },
    repeats: { type: "string", default: "7" },
  },
});
const promptTokens = Number(values.prompt);
const tailTokens = Number(values.tail);
const repeats = Number(values.repeats);
const folder = mkdtempSync(join(values.folder, "ucm-perf-store-"));
const numBlocks = Math.ceil(promptTokens / Number(values["block-size"]));
const head = randomPrompt(promptTokens - tailTokens);
const newPrompt = () => [...head, ...randomPrompt(tailTokens)];

function blockFiles(backend) {
  return readdirSync(backend, { recursive: true, encoding: "utf8" })
    .filter((path) => path.endsWith(".kv"))
    .map((path) => join(backend, path));
}

/** Takes the files out of the page cache, once they are on the device. */
async function evict(files) {
  await execa("sync", ["-f", folder]);
  for (let i = 0; i < files.length; i += 64) {
    await Promise.all(
      files
        .slice(i, i + 64)
        .map((file) => execa("dd", [`if=${file}`, "iflag=nocache", "count=0", "status=none"])),
    );
  }
}

/** One reader, one file after the other, bytes per second. */
function readRate(files) {
  const buffer = Buffer.alloc(1 << 20);
  const started = performance.now();
  let bytes = 0;
  for (const path of files) {
    const file = openSync(path, "r");
    for (let got = 1; got > 0; bytes += got) got = readSync(file, buffer);
    closeSync(file);
  }
  return (bytes / (performance.now() - started)) * 1000;
}

/** Passes steps on, and keeps when they ran and what loads took. */
function recorder() {
  const steps = [];
  return {
    steps,
    wrap: (executor) => ({
      async execute(step) {
        const result = await executor.execute(step);
        const [load] = result.store?.loaded ?? [];
        steps.push({
          computeMs: step.scheduled.length > 0 ? result.durationMs : 0,
          loadMs: load?.durationMs ?? 0,
        });
        return result;
      },
    }),
  };
}

async function startWith(store) {
  const record = recorder();
  const server = await startEngine(
    [
      ...["--max-model-len", String(promptTokens + 16), "--no-enable-prefix-caching"],
      ...["--block-size", values["block-size"]],
      ...(values.quantization === "none" ? [] : ["--quantization", values.quantization]),
      ...["--kv-transfer-config", JSON.stringify(transferConfig(store))],
    ],
    { wrap: record.wrap },
  );
  return { ...server, steps: record.steps };
}

function transferConfig([name, config]) {
  return {
    kv_connector: "UnifiedCacheConnectorV1",
    kv_role: "kv_both",
    kv_connector_extra_config: {
      ucm_connector_name: name,
      ucm_connector_config: config,
      load_decision: "always",
    },
  };
}

async function hits({ engine, steps }, prepare = async () => undefined) {
  const ttft = [];
  const load = [];
  const compute = [];
  for (let i = 0; i < repeats; i++) {
    await prepare();
    steps.length = 0;
    const { ttftMs, numCachedTokens } = await measure(engine, newPrompt(), 1);
    const found = Math.floor(
      (promptTokens - Math.max(1, tailTokens)) / Number(values["block-size"]),
    );
    if (numCachedTokens !== found * Number(values["block-size"])) {
      throw new Error(`${numCachedTokens} tokens were found in the store`);
    }
    ttft.push(ttftMs);
    load.push(steps.reduce((sum, { loadMs }) => sum + loadMs, 0));
    compute.push(steps.reduce((sum, { computeMs }) => sum + computeMs, 0));
  }
  return { ttftMs: median(ttft), loadMs: median(load), computeMs: median(compute) };
}

function report(what, { ttftMs, loadMs, computeMs }, coldMs, bytes) {
  const rate =
    loadMs > 0 ? `, load ${loadMs.toFixed(1)} ms = ${(bytes / loadMs / 1e6).toFixed(2)} GB/s` : "";
  console.log(
    `${what}: TTFT ${ttftMs.toFixed(1)} ms, ${(coldMs / ttftMs).toFixed(0)}x below cold${rate}, compute ${computeMs.toFixed(1)} ms`,
  );
}

const files = await startWith(["UcmNfsStore", { storage_backends: folder }]);
const { config, ready } = files;
const bytes = (config.cache.kvBytes / config.cache.numBlocks) * (numBlocks - 1);
console.log(
  `Qwen2.5-0.5B shape, ${values.quantization}, KV ${config.cache.kvDtype}, ${config.parallel.threads} threads, ${ready.isa}; ` +
    `${promptTokens} tokens, ${tailTokens} of them new, blocks of ${values["block-size"]}, ${(bytes / 1e6).toFixed(0)} MB`,
);
await measure(files.engine, randomPrompt(64), 2);
files.steps.length = 0;
const cold = await measure(files.engine, newPrompt(), 1);
console.log(`cold: TTFT ${cold.ttftMs.toFixed(0)} ms`);
const written = () => blockFiles(folder).filter((path) => statSync(path).size > 0);
for (let i = 0; i < 100 && written().length < numBlocks - 1; i++) await sleep(100);
await sleep(500);
report("hit in files, in the page cache", await hits(files), cold.ttftMs, bytes);
const paths = written();
report(
  "hit in files, not in the page cache",
  await hits(files, () => evict(paths)),
  cold.ttftMs,
  bytes,
);
await files.stop();
console.log(
  `roof of files, one sequential reader: ${(readRate(paths) / 1e9).toFixed(2)} GB/s in the page cache`,
);
await evict(paths);
console.log(
  `roof of files, one sequential reader: ${(readRate(paths) / 1e9).toFixed(2)} GB/s from the device`,
);

const memory = await startWith(["UcmDram", { max_cache_size: 2 * bytes + 2 ** 28 }]);
await measure(memory.engine, randomPrompt(64), 2);
await measure(memory.engine, newPrompt(), 1);
report("hit in memory", await hits(memory), cold.ttftMs, bytes);
await memory.stop();
rmSync(folder, { recursive: true });
console.log(`roof: ${await roofLine(config.parallel.threads)}`);
