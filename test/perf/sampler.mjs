// Time that sampling adds to a token at Qwen2.5's vocabulary of 151 936: medians over random logits.
//
//   npm run build && node test/perf/sampler.mjs

import { defaultSamplingParams } from "../../dist/messages/index.js";
import { loadNative } from "../../dist/native/index.js";
import { createSampler } from "../../dist/worker/sampler.js";

const VOCAB = 151_936;
const REPEATS = 60;
const native = loadNative();
const sampler = createSampler(native, { vocabSize: VOCAB, seed: 0 });

const cases = {
  greedy: { temperature: 0 },
  "temperature 1": {},
  "top_p 0.9": { topP: 0.9 },
  "top_p 0.9, temperature 0.6, min_p 0.05": { topP: 0.9, temperature: 0.6, minP: 0.05 },
  "top_k 50 + all penalties": {
    topK: 50,
    presencePenalty: 0.5,
    frequencyPenalty: 0.5,
    repetitionPenalty: 1.1,
  },
  "allowed_token_ids + logit_bias": { allowedTokenIds: [1, 2, 3], logitBias: { 5: 3 } },
  "greedy, logprobs 20": { temperature: 0, logprobs: 20 },
  "top_p 0.9 + penalties, logprobs 20": { topP: 0.9, repetitionPenalty: 1.1, logprobs: 20 },
};

/** Logits with the peaked shape of a language model's: normal, deviation 3. */
const rows = Array.from({ length: 4 }, (_, seed) => {
  const logits = new Float32Array(VOCAB);
  native.fillRandom(logits, seed, 3);
  return logits;
});
const scratch = new Float32Array(VOCAB);
const promptTokenIds = Int32Array.from({ length: 8000 }, (_, i) => (i * 7919) % VOCAB);

console.log(`median of ${REPEATS}, vocabulary ${VOCAB}, ${native.isa()}`);
for (const [name, sampling] of Object.entries(cases)) {
  const state = sampler.createState({
    seqId: 1,
    promptTokenIds,
    sampling: { ...defaultSamplingParams, ...sampling },
  });
  const times = [];
  for (let i = 0; i < REPEATS; i++) {
    scratch.set(rows[i % rows.length]);
    const started = performance.now();
    sampler.sample(scratch, state);
    times.push(performance.now() - started);
  }
  times.sort((a, b) => a - b);
  console.log(`${times[REPEATS >> 1].toFixed(3).padStart(8)} ms  ${name}`);
}
