// Whether ucm and llama.cpp compute the same model: greedy tokens of ucm, and what log-probabilities both
// give to each of them. In fp32 they differ by rounding alone; other weights, positions or heads would show
// as differences near 1.
//
//   npm run build && node test/perf/peers/parity.mjs [--folder DIR] [--tokens 16] [--threads 2]

import { rmSync } from "node:fs";
import { parseArgs } from "node:util";
import { defaultSamplingParams } from "../../../dist/messages/index.js";
import { randomPrompt, startEngine } from "../engine.mjs";
import { Llama } from "./llama.mjs";
import { makeGguf, makeModelFolder } from "./model-files.mjs";

/** Greedy tokens of an engine after a prompt, and the log-probability of each. */
export async function generateWithLogprobs(engine, promptTokenIds, maxTokens) {
  const sampling = {
    ...defaultSamplingParams,
    temperature: 0,
    ignoreEos: true,
    maxTokens,
    logprobs: 1,
  };
  const rest = { priority: 0, cacheSalt: null, detokenize: false };
  const answer = [];
  for await (const { delta } of engine.generate({
    requestId: "parity",
    promptTokenIds,
    sampling,
    ...rest,
  })) {
    delta.tokenIds.forEach((token, i) => {
      answer.push({ token, logprob: delta.logprobs[i].logprobs[0] });
    });
  }
  return answer;
}

/** What llama.cpp, which has a model loaded, gives to `answer` token by token. */
export async function compareAnswer(llama, prompt, answer, { threads, kvType }) {
  const contextSize = prompt.length + answer.length + 1;
  await llama.call("open", {
    ...{ contextSize, sequences: 1, flashAttention: false, batch: 512, threads, kvType },
  });
  let tokens = prompt;
  let position = 0;
  let agreed = 0;
  let greatest = 0;
  for (const { token, logprob } of answer) {
    const peer = await llama.call("logprobs", { tokens, position, wanted: [token] });
    agreed += peer.token === token ? 1 : 0;
    greatest = Math.max(greatest, Math.abs(peer.logprobs[0] - logprob));
    position += tokens.length;
    tokens = [token];
  }
  await llama.call("close");
  return { numTokens: answer.length, sameGreedy: agreed, greatestDifference: greatest };
}

async function main() {
  const { values } = parseArgs({
    options: {
      folder: { type: "string", default: "/tmp/ucm-peers" },
      tokens: { type: "string", default: "16" },
      threads: { type: "string", default: "2" },
      modules: { type: "string", default: import.meta.dirname },
    },
  });
  const threads = Number(values.threads);
  makeModelFolder(values.folder);
  const prompt = randomPrompt(80);
  const server = await startEngine(
    [
      ...["--max-model-len", "512", "--kv-cache-dtype", "float32"],
      ...["--cpu-cores-per-worker", values.threads],
    ],
    { model: values.folder },
  );
  const answer = await generateWithLogprobs(server.engine, prompt, Number(values.tokens));
  await server.stop();
  const llama = await Llama.start({ modules: values.modules, threads });
  const path = makeGguf(values.folder, "F32");
  try {
    await llama.call("load", { path });
    const result = await compareAnswer(llama, prompt, answer, { threads, kvType: "F32" });
    console.log(
      `fp32 weights and KV: llama.cpp's greedy token is ucm's at ${result.sameGreedy} of ${result.numTokens} positions, log-probabilities differ by ${result.greatestDifference.toExponential(1)} at most`,
    );
    if (result.sameGreedy < result.numTokens || result.greatestDifference > 1e-2) {
      console.log("the engines do not compute the same model");
      process.exitCode = 1;
    }
  } finally {
    llama.stop();
    rmSync(path);
  }
}

if (process.argv[1] === import.meta.filename) await main();
