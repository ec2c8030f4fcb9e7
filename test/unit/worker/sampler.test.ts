import { describe, expect, it } from "vitest";
import {
  defaultSamplingParams,
  type NewSequence,
  type WorkerSampling,
} from "../../../src/messages/index.js";
import { loadNative } from "../../../src/native/index.js";
import { uniform } from "../../../src/worker/random.js";
import { createSampler, type Sampler, type SamplingKernels } from "../../../src/worker/sampler.js";
import { randomIntegers } from "../tokenizer/fixtures.js";
import { filteredProbabilities, plainKernels, processedLogits, softmax } from "./sampler-oracle.js";

const VOCAB = 60;

function sequence(
  sampling: Partial<WorkerSampling>,
  prompt: number[] = [],
  seqId = 1,
): NewSequence {
  return {
    seqId,
    promptTokenIds: Int32Array.from(prompt),
    sampling: { ...defaultSamplingParams, ...sampling },
  };
}

/** Roughly normal logits with some exact ties, of a given spread. */
function randomLogits(random: (below: number) => number, length = VOCAB, spread = 3): Float32Array {
  const normal = () =>
    Array.from({ length: 6 }, () => random(1e6) / 1e6 - 0.5).reduce((a, b) => a + b);
  return Float32Array.from({ length }, () => {
    const value = spread * normal();
    return random(5) === 0 ? Math.round(value) : value;
  });
}

/** Samples `count` tokens from the same logits; the sampler may spoil its copy. */
function generate(
  sampler: Sampler,
  logits: Float32Array,
  sequence: NewSequence,
  count: number,
): number[] {
  const state = sampler.createState(sequence);
  return Array.from({ length: count }, () => sampler.sample(logits.slice(), state).tokenId);
}

function expectError(act: () => unknown, code: string, words: RegExp): void {
  expect(act).toThrow(words);
  expect(act).toThrow(expect.objectContaining({ code }));
}

const kernelSets: [name: string, kernels: SamplingKernels][] = [
  ["plain kernels", plainKernels],
  ["the addon", loadNative()],
];

describe.each(kernelSets)("with %s", (_, kernels) => {
  const sampler = createSampler(kernels, { vocabSize: VOCAB, seed: 5 });

  it("agrees with the whole pipeline in float64", () => {
    const random = randomIntegers(11);
    const pick = <T>(...choices: T[]): T => choices[random(choices.length)]!;
    for (let round = 0; round < 400; round++) {
      const prompt = Array.from({ length: random(10) }, () => random(VOCAB));
      const sampling: WorkerSampling = {
        ...defaultSamplingParams,
        temperature: pick(0, 0.3, 1, 1.7),
        topK: pick(0, 1, 5, 30, VOCAB, 1000, 2 ** 31, 2 ** 53),
        topP: pick(1, 0.95, 0.5, 0.05),
        minP: pick(0, 0, 0.02, 0.3),
        presencePenalty: pick(0, 0.7, -0.5),
        frequencyPenalty: pick(0, 0.4, -0.3),
        repetitionPenalty: pick(1, 1.3, 0.8),
        seed: random(1e9),
        minTokens: pick(0, 3),
        stopTokenIds: [random(VOCAB)],
        eosTokenIds: [random(VOCAB)],
        logitBias: pick(null, { [random(VOCAB)]: 4, [random(VOCAB)]: -100 }),
        allowedTokenIds: pick(null, null, [3, 14, 15, 9, 26, 5, 35, 8, 9]),
        badWordIds: pick([], [[3], [9, 14], [random(VOCAB), random(VOCAB), 5]]),
        logprobs: pick(null, 0, 4, -1),
      };
      const state = sampler.createState(sequence(sampling, prompt));
      const output: number[] = [];
      for (let step = 0; step < 6; step++) {
        const raw = randomLogits(random);
        const { tokenId, logprobs } = sampler.sample(raw.slice(), state);
        const processed = processedLogits(raw, sampling, prompt, output);
        if (sampling.temperature === 0) {
          expect(processed[tokenId]).toBeCloseTo(Math.max(...processed), 4);
        } else {
          expectDrawn(tokenId, processed, sampling, uniform(sampling.seed!, null, step));
        }
        if (sampling.logprobs === null) expect(logprobs).toBeNull();
        else expectLogprobs(logprobs!, raw, tokenId, sampling.logprobs);
        output.push(tokenId);
      }
    }
  });

  it("draws with the probabilities of the filters", () => {
    const specs: Partial<WorkerSampling>[] = [
      {},
      { temperature: 0.5 },
      { temperature: 2, topK: 7 },
      { topP: 0.8 },
      { minP: 0.1 },
      { temperature: 1.4, topK: 40, topP: 0.9, minP: 0.01 },
    ];
    const logits = randomLogits(randomIntegers(3));
    for (const spec of specs) {
      const { sampling } = sequence(spec);
      const expected = filteredProbabilities(logits, sampling);
      const draws = 8000;
      const counts = new Float64Array(VOCAB);
      // From the seed and without one: both ways to a number must be uniform.
      for (const seed of [99, null]) {
        for (const token of generate(sampler, logits, sequence({ ...spec, seed }), draws / 2)) {
          counts[token]!++;
        }
      }
      let chiSquare = 0;
      let bins = 0;
      for (const [id, probability] of expected.entries()) {
        if (probability === 0) expect(counts[id]).toBe(0);
        if (probability * draws < 5) continue;
        chiSquare += (counts[id]! - probability * draws) ** 2 / (probability * draws);
        bins++;
      }
      expect(bins).toBeGreaterThan(1);
      // Five standard deviations above the mean of the chi-square distribution.
      expect(chiSquare).toBeLessThan(bins - 1 + 5 * Math.sqrt(2 * (bins - 1)));
    }
  });

  it("keeps all tokens that tie at the k-th place, and the likeliest whatever top_p is", () => {
    const tied = Float32Array.from({ length: VOCAB }, (_, id) => (id < 4 ? 2 : id < 10 ? 1 : 0));
    const seen = (sampling: Partial<WorkerSampling>) =>
      new Set(generate(sampler, tied, sequence({ ...sampling, temperature: 3 }), 500));
    expect(seen({ topK: 2 })).toEqual(new Set([0, 1, 2, 3]));
    expect(seen({ topK: 5 })).toEqual(new Set([0, 1, 2, 3, 4, 5, 6, 7, 8, 9]));
    expect(seen({ topP: 1e-9 })).toEqual(new Set([0]));
  });

  it("takes the lowest of equals when greedy, and raises tiny temperatures", () => {
    const logits = new Float32Array(VOCAB).fill(-1);
    logits[7] = 3;
    logits[40] = 3;
    expect(generate(sampler, logits, sequence({ temperature: 0 }), 3)).toEqual([7, 7, 7]);
    const drawn = generate(sampler, logits, sequence({ temperature: 1e-30 }), 50);
    expect(new Set(drawn)).toEqual(new Set([7, 40]));
  });

  it("penalizes what was said, and the prompt by repetition only", () => {
    const logits = new Float32Array(VOCAB).fill(-5);
    logits.set([5, 4.5, 4, 3.6]);
    const greedy = (sampling: Partial<WorkerSampling>, prompt: number[] = []) =>
      generate(sampler, logits, sequence({ ...sampling, temperature: 0 }, prompt), 5);
    expect(greedy({})).toEqual([0, 0, 0, 0, 0]);
    expect(greedy({ presencePenalty: 1.2 })).toEqual([0, 1, 2, 0, 0]);
    expect(greedy({ frequencyPenalty: 0.8 })).toEqual([0, 1, 0, 2, 1]);
    expect(greedy({ repetitionPenalty: 1.3 })).toEqual([0, 1, 2, 0, 0]);
    expect(greedy({ repetitionPenalty: 1.3 }, [0, 1])).toEqual([2, 0, 0, 0, 0]);
    expect(greedy({ presencePenalty: 2, frequencyPenalty: 2 }, [0, 1, 0])[0]).toBe(0);
  });

  it("multiplies negative logits by the repetition penalty", () => {
    const logits = new Float32Array(VOCAB).fill(-9);
    logits.set([-1, -1.5]);
    const tokens = generate(sampler, logits, sequence({ temperature: 0, repetitionPenalty: 2 }), 4);
    expect(tokens).toEqual([0, 1, 0, 0]);
  });

  it("does not stop before min_tokens", () => {
    const logits = new Float32Array(VOCAB);
    logits.set([9, 8, 7]);
    const sampling = { temperature: 0, minTokens: 3, eosTokenIds: [0], stopTokenIds: [1] };
    expect(generate(sampler, logits, sequence(sampling), 5)).toEqual([2, 2, 2, 0, 0]);
    const bias = { 0: 100 };
    expect(generate(sampler, logits, sequence({ ...sampling, logitBias: bias }), 4)).toEqual([
      2, 2, 2, 0,
    ]);
  });

  it("does not say a bad word, nor forbids its end elsewhere", () => {
    const logits = new Float32Array(VOCAB).fill(-9);
    logits.set([5, 4, 3]);
    const greedy = (badWordIds: number[][]) =>
      generate(sampler, logits, sequence({ temperature: 0, badWordIds }), 5);
    expect(greedy([[0]])).toEqual([1, 1, 1, 1, 1]);
    expect(greedy([[0, 0]])).toEqual([0, 1, 0, 1, 0]);
    expect(
      greedy([
        [0, 0, 0],
        [0, 1],
      ]),
    ).toEqual([0, 0, 2, 0, 0]);
  });

  it("draws allowed tokens only", () => {
    const logits = randomLogits(randomIntegers(8));
    const tokens = generate(
      sampler,
      logits,
      sequence({ temperature: 5, allowedTokenIds: [3, 50, 3, 999, -1] }),
      100,
    );
    expect(new Set(tokens)).toEqual(new Set([3, 50]));
    const biased = { allowedTokenIds: [3, 50], logitBias: { 12: 100, 50: -100 } };
    expect(new Set(generate(sampler, logits, sequence(biased), 50))).toEqual(new Set([3]));
  });

  it("repeats a seeded sequence, whatever runs beside it", () => {
    const logits = randomLogits(randomIntegers(4), VOCAB, 1);
    const alone = generate(sampler, logits, sequence({ seed: 123 }), 40);
    expect(generate(sampler, logits, sequence({ seed: 123 }, [1, 2], 77), 40)).toEqual(alone);
    expect(generate(sampler, logits, sequence({ seed: 124 }), 40)).not.toEqual(alone);
    const otherEngine = createSampler(kernels, { vocabSize: VOCAB, seed: 6 });
    expect(generate(otherEngine, logits, sequence({ seed: 123 }), 40)).toEqual(alone);
  });

  it("draws unseeded sequences from the engine's seed and their own id", () => {
    const logits = randomLogits(randomIntegers(4), VOCAB, 1);
    const alone = [1, 2, 3].map((seqId) => generate(sampler, logits, sequence({}, [], seqId), 40));
    expect(new Set(alone.map(String)).size).toBe(3);
    const states = [1, 2, 3].map((seqId) => sampler.createState(sequence({}, [], seqId)));
    const together: number[][] = [[], [], []];
    for (let step = 0; step < 40; step++) {
      for (const i of step % 2 === 0 ? [2, 0, 1] : [1, 2, 0]) {
        together[i]!.push(sampler.sample(logits.slice(), states[i]!).tokenId);
      }
    }
    expect(together).toEqual(alone);
    const other = createSampler(kernels, { vocabSize: VOCAB, seed: 6 });
    expect(generate(other, logits, sequence({}, [], 1), 40)).not.toEqual(alone[0]);
  });

  it("takes log-probabilities before anything is changed", () => {
    const logits = randomLogits(randomIntegers(9));
    const sampling = {
      temperature: 0.7,
      seed: 1,
      logprobs: 3,
      allowedTokenIds: [17],
      logitBias: { 17: 50 },
    };
    const state = sampler.createState(sequence(sampling));
    const { tokenId, logprobs } = sampler.sample(logits.slice(), state);
    expect(tokenId).toBe(17);
    expectLogprobs(logprobs!, logits, 17, 3);
  });

  it("scores prompt positions", () => {
    const random = randomIntegers(21);
    const rows = Array.from({ length: 4 }, () => randomLogits(random));
    for (const k of [0, 2, -1, 5000]) {
      const collector = sampler.promptLogprobs(rows.length, k);
      rows.forEach((row, i) => {
        collector.add(row, i * 7);
      });
      const { width, tokenIds, logprobs, ranks } = collector.rows();
      expect(width).toBe(1 + (k === 2 ? 2 : k === 0 ? 0 : VOCAB));
      rows.forEach((row, i) => {
        const part = {
          width,
          tokenIds: tokenIds.slice(i * width, (i + 1) * width),
          logprobs: logprobs.slice(i * width, (i + 1) * width),
          ranks: ranks.slice(i, i + 1),
        };
        expectLogprobs(part, row, i * 7, k);
      });
    }
  });

  it("refuses logits that are not finite, sampled or scored", () => {
    for (const bad of [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY]) {
      const logits = randomLogits(randomIntegers(2));
      logits[31] = bad;
      for (const temperature of [0, 1]) {
        const state = sampler.createState(sequence({ temperature }));
        expectError(() => sampler.sample(logits.slice(), state), "UCM_ERR_INTERNAL", /token 31 is/);
      }
      expectError(
        () => sampler.promptLogprobs(1, 1).add(logits, 0),
        "UCM_ERR_INTERNAL",
        /token 31 is/,
      );
    }
  });

  it("refuses a request that forbids every token", () => {
    const impossible = { allowedTokenIds: [4], minTokens: 1, eosTokenIds: [4] };
    for (const temperature of [0, 1]) {
      const state = sampler.createState(sequence({ ...impossible, temperature }));
      const logits = randomLogits(randomIntegers(2));
      expectError(
        () => sampler.sample(logits.slice(), state),
        "UCM_ERR_INVALID_REQUEST",
        /forbid every one/,
      );
    }
  });
});

/** `tokenId` is where the inverse CDF of the float64 pipeline leads, allowing for fp32 at the edges. */
function expectDrawn(
  tokenId: number,
  processed: Float64Array,
  sampling: WorkerSampling,
  drawn: number,
): void {
  const TOLERANCE = 1e-5;
  const fits = [0, TOLERANCE, -TOLERANCE].some((shift) => {
    const topP = sampling.topP === 1 ? 1 : sampling.topP + shift;
    const probabilities = filteredProbabilities(processed, { ...sampling, topP });
    const before = probabilities.slice(0, tokenId).reduce((a, b) => a + b, 0);
    const own = probabilities[tokenId]!;
    return own > 0 && drawn > before - TOLERANCE && drawn < before + own + TOLERANCE;
  });
  expect(fits, `token ${tokenId} for ${drawn} under ${JSON.stringify(sampling)}`).toBe(true);
}

function expectLogprobs(
  rows: { width: number; tokenIds: Int32Array; logprobs: Float32Array; ranks: Int32Array },
  raw: Float32Array,
  tokenId: number,
  k: number,
): void {
  const expected = softmax(raw).map(Math.log);
  const byRank = [...raw.keys()].sort((a, b) => raw[b]! - raw[a]! || a - b);
  const top = byRank.slice(0, k < 0 ? VOCAB : k);
  expect(rows.width).toBe(1 + top.length);
  expect([...rows.tokenIds]).toEqual([tokenId, ...top]);
  for (const [i, id] of rows.tokenIds.entries()) {
    expect(Math.abs(rows.logprobs[i]! - expected[id]!)).toBeLessThan(1e-4);
  }
  expect([...rows.ranks]).toEqual([1 + raw.filter((logit) => logit > raw[tokenId]!).length]);
}
