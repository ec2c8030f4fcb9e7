// Many streams held at once by one server on the demo model: what its parent process needs, how late its
// event loop runs, and what clients see. A stream that ends is followed by another.
//
//   npm run build && node test/perf/streams.mjs [--streams 1000] [--seconds 300] [--cpu-prof FOLDER]

import { parseArgs } from "node:util";
import { describeLag, percentile, send, startProbed } from "./probed-server.mjs";

const { values } = parseArgs({
  options: {
    streams: { type: "string", default: "1000" },
    seconds: { type: "string", default: "300" },
    tokens: { type: "string", default: "200" },
    "cpu-prof": { type: "string" },
  },
});
const streams = Number(values.streams);
const profile = values["cpu-prof"];
const server = await startProbed(
  [
    ...["--max-model-len", "512", "--max-num-seqs", String(streams)],
    ...["--num-gpu-blocks-override", String(streams * 24)],
  ],
  profile === undefined ? [] : ["--cpu-prof", "--cpu-prof-dir", profile],
);

const answers = [];
let isOver = false;
async function hold(number) {
  for (let turn = 0; !isOver; turn++) {
    const body = {
      ...{ prompt: `Stream ${number}, turn ${turn}. Once upon a time`, stream: true },
      ...{ max_tokens: Number(values.tokens), ignore_eos: true, seed: number },
    };
    const answer = await send(server.port, "/v1/completions", body);
    answers.push({ ...answer, turn });
  }
}

const begin = await server.settle();
const startedMs = performance.now();
const held = Array.from({ length: streams }, (_, number) => hold(number));
await new Promise((done) => setTimeout(done, Number(values.seconds) * 1000));
const seconds = (performance.now() - startedMs) / 1000;
const end = server.lines().at(-1);
isOver = true;
const metrics = await (await fetch(`http://127.0.0.1:${server.port}/metrics`)).text();
const generated = Number(/^vllm:generation_tokens_total\{.*\} (\S+)/m.exec(metrics)[1]);
await Promise.all(held);
const settled = await server.settle();
await server.stop();

const good = answers.filter(({ status }) => status === 200);
const times = (name) => good.map((answer) => answer[name]).filter((ms) => ms !== null);
const ms = (name) =>
  [0.5, 0.99].map((share) => percentile(times(name), share).toFixed(0)).join(" / ");
const mib = (bytes) => (bytes / 2 ** 20).toFixed(0);
console.log(
  [
    `${streams} streams for ${seconds.toFixed(0)} s: ${good.length} answers, ${answers.length - good.length} errors`,
    `${(generated / seconds).toFixed(0)} tokens/s; TTFT p50 / p99 ${ms("ttftMs")} ms, TPOT ${ms("tpotMs")} ms`,
    `parent: ${(((end.cpuMs - begin.cpuMs) / (end.atMs - begin.atMs)) * 100).toFixed(0)} % of a core, ${(((end.cpuMs - begin.cpuMs) * 1000) / generated).toFixed(0)} µs a token, ${describeLag(end.lagMs)}`,
    `parent RSS ${mib(begin.rss)} -> ${mib(end.rss)} MiB, heap after collection ${mib(begin.heapUsed)} -> ${mib(settled.heapUsed)} MiB, descriptors ${begin.descriptors} -> ${end.descriptors}`,
  ].join("\n"),
);
