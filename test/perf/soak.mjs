// A server on the demo model under mixed requests at a share of what it can do, for minutes or hours:
// short, long and sparse prompts, streams, structured outputs, chats, aborted streams, errors. Prints the
// slopes of memory and descriptors, by least squares over the last three quarters of the time.
//
//   npm run build && node test/perf/soak.mjs [--minutes 30] [--load 0.8] [--seed 1]

import { readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import { execaSync } from "execa";
import { describeLag, percentile, send, startProbed } from "./probed-server.mjs";

const { values } = parseArgs({
  options: {
    minutes: { type: "string", default: "30" },
    load: { type: "string", default: "0.8" },
    seed: { type: "string", default: "1" },
    "capacity-seconds": { type: "string", default: "60" },
  },
});

let state = Number(values.seed);
/** A number from 0 to 1, the same series for a seed. */
function chance() {
  state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
  return state / 2 ** 32;
}

const words = (count) => Array.from({ length: count }, () => Math.floor(chance() * 900) + 100);
const schema = {
  type: "object",
  properties: { id: { type: "integer", minimum: 10 }, tag: { enum: ["red", "green"] } },
  required: ["id", "tag"],
};
const short = () => ({ prompt: `Of ${words(12).join(" ")}`, max_tokens: 24 });
/** [weight, path, body, what to expect, options] by name. */
const kinds = {
  whole: [20, "/v1/completions", short, 200],
  stream: [20, "/v1/completions", () => ({ ...short(), max_tokens: 48, stream: true }), 200],
  chat: [
    15,
    "/v1/chat/completions",
    () => ({ messages: [{ role: "user", content: short().prompt }], max_tokens: 24, stream: true }),
    200,
  ],
  // Long enough to be sparse.
  long: [6, "/v1/completions", () => ({ prompt: words(600).join(" "), max_tokens: 24 }), 200],
  structured: [
    8,
    "/v1/completions",
    () => ({ ...short(), max_tokens: 60, structured_outputs: { json: schema } }),
    200,
  ],
  ownSchema: [
    2,
    "/v1/completions",
    () => ({ ...short(), structured_outputs: { choice: [String(chance()), String(chance())] } }),
    200,
  ],
  aborted: [
    10,
    "/v1/completions",
    () => ({ ...short(), max_tokens: 400, stream: true }),
    0,
    { leaveAfterMs: 300 },
  ],
  error: [6, "/v1/completions", () => ({ prompt: "x", max_tokens: 1e9 }), 400],
  badGrammar: [
    2,
    "/v1/completions",
    () => ({ prompt: "x", structured_outputs: { regex: "(" } }),
    400,
  ],
  tokenize: [4, "/tokenize", () => ({ prompt: words(200).join(" ") }), 200],
};

const transfer = {
  ...{ kv_connector: "UnifiedCacheConnectorV1", kv_role: "kv_both" },
  kv_connector_module_path: "unifiedcache.integration.vllm.uc_connector",
  kv_connector_extra_config: {
    ucm_connector_name: "UcmDram",
    ucm_connector_config: { max_cache_size: 64 * 2 ** 20 },
    ucm_sparse_method: "ESA",
  },
};
const server = await startProbed([
  ...["--max-model-len", "4096", "--max-num-seqs", "64", "--num-gpu-blocks-override", "4096"],
  ...["--kv-transfer-config", JSON.stringify(transfer)],
]);

const total = Object.values(kinds).reduce((sum, [weight]) => sum + weight, 0);
const wrong = [];
const answers = [];
/** One request of the mixture. */
async function ask() {
  let left = chance() * total;
  const [name, [, path, make, expected, options]] = Object.entries(kinds).find(([, [weight]]) => {
    left -= weight;
    return left < 0;
  });
  const answer = await send(server.port, path, make(), options);
  answers.push({ name, ...answer });
  // One that is to be aborted may be through before; a full queue says so.
  const isExpected = answer.status === expected || (expected === 0 && answer.status === 200);
  if (!isExpected && answer.status !== 429) wrong.push(`${name}: ${answer.status}`);
}

async function measureCapacity(seconds) {
  const untilMs = performance.now() + seconds * 1000;
  const client = async () => {
    while (performance.now() < untilMs) await ask();
  };
  await Promise.all(Array.from({ length: 32 }, client));
  return answers.length / seconds;
}

const capacity = await measureCapacity(Number(values["capacity-seconds"]));
const rate = capacity * Number(values.load);
console.log(
  `capacity ${capacity.toFixed(1)} requests/s at 32 at once; soak at ${rate.toFixed(1)}/s`,
);
answers.length = 0;
const [worker] = execaSync("pgrep", ["-P", String(server.pid)]).stdout.split("\n");
const workerRss = () =>
  Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${worker}/status`, "utf8"))[1]) * 1024;

const begin = await server.settle();
const samples = [];
const startedMs = performance.now();
const endMs = startedMs + Number(values.minutes) * 60_000;
const MAX_PENDING = 128;
const pending = new Set();
let nextMs = startedMs;
let sampleMs = startedMs + 30_000;
while (performance.now() < endMs) {
  nextMs += (-Math.log(1 - chance()) * 1000) / rate;
  await sleep(Math.max(0, nextMs - performance.now()));
  // A machine that has become slower than when it was measured is loaded fully, not more and more.
  while (pending.size >= MAX_PENDING) {
    await Promise.race(pending);
    nextMs = performance.now();
  }
  const one = ask().finally(() => pending.delete(one));
  pending.add(one);
  if (performance.now() < sampleMs) continue;
  sampleMs = performance.now() + 30_000;
  const line = server.lines().at(-1);
  samples.push({ ...line, worker: workerRss(), minutes: (performance.now() - startedMs) / 60_000 });
  console.log(
    `${samples.at(-1).minutes.toFixed(1)} min: ${answers.length} answers, parent ${mib(line.rss)}, worker ${mib(samples.at(-1).worker)}, descriptors ${line.descriptors}, in flight ${pending.size}`,
  );
}
const end = server.lines().at(-1);
await Promise.all(pending);
const settled = await server.settle();
await server.stop();

function mib(bytes) {
  return `${(bytes / 2 ** 20).toFixed(1)} MiB`;
}

/** Least-squares slope of a value over the last three quarters, per hour. */
function slope(read) {
  const points = samples.filter(({ minutes }) => minutes > Number(values.minutes) / 4);
  const mean = (list) => list.reduce((sum, value) => sum + value, 0) / list.length;
  const [x, y] = [mean(points.map(({ minutes }) => minutes / 60)), mean(points.map(read))];
  const up = points.reduce((sum, p) => sum + (p.minutes / 60 - x) * (read(p) - y), 0);
  return up / points.reduce((sum, p) => sum + (p.minutes / 60 - x) ** 2, 0);
}

const counts = {};
for (const { name, status } of answers) {
  counts[`${name} ${status}`] = (counts[`${name} ${status}`] ?? 0) + 1;
}
const ttft = answers.map(({ ttftMs }) => ttftMs).filter((ms) => ms !== null);
console.log(
  [
    `${values.minutes} min: ${JSON.stringify(counts)}; ${wrong.length} unexpected ${wrong.slice(0, 5)}`,
    `TTFT or whole answer p50 ${percentile(ttft, 0.5).toFixed(0)} p99 ${percentile(ttft, 0.99).toFixed(0)} ms; ${describeLag(end.lagMs)}`,
    `parent ${(((end.cpuMs - begin.cpuMs) / (end.atMs - begin.atMs)) * 100).toFixed(0)} % of a core; heap after collection ${mib(begin.heapUsed)} -> ${mib(settled.heapUsed)}, RSS ${mib(begin.rss)} -> ${mib(settled.rss)}, descriptors ${begin.descriptors} -> ${settled.descriptors}`,
    `slopes per hour: parent RSS ${mib(slope(({ rss }) => rss))}, worker RSS ${mib(slope((sample) => sample.worker))}, descriptors ${slope((sample) => sample.descriptors).toFixed(1)}`,
  ].join("\n"),
);
if (wrong.length > 0) process.exitCode = 1;
