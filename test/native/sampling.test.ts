import { describe, expect, it } from "vitest";
import { type DrawSpec, loadNative } from "../../src/native/index.js";
import { expectError } from "./addon.js";

const native = loadNative();
const vocab = 151_936;
const plain: DrawSpec = { temperature: 1, topK: 0, topP: 1, minP: 0, uniform: 0 };

function randomLogits(length: number, seed: number, deviation = 3): Float32Array {
  const logits = new Float32Array(length);
  native.fillRandom(logits, seed, deviation);
  return logits;
}

/** Ids by falling logit, ties by rising id. */
function ranked(logits: Float32Array): number[] {
  return Array.from(logits.keys()).sort((a, b) => logits[b]! - logits[a]! || a - b);
}

/** The probabilities that draw() must follow, by plain sorting. */
function keptProbabilities(logits: Float32Array, spec: DrawSpec): Map<number, number> {
  const order = ranked(logits);
  const best = logits[order[0]!]!;
  const weight = (id: number) => Math.exp((logits[id]! - best) / spec.temperature);
  let kept = order.filter((id) => weight(id) >= spec.minP);
  if (spec.topK > 0 && spec.topK < kept.length) {
    const last = logits[kept[spec.topK - 1]!]!;
    kept = kept.filter((id) => logits[id]! >= last);
  }
  const total = kept.reduce((sum, id) => sum + weight(id), 0);
  let before = 0;
  kept = kept.filter((id) => {
    const inside = before < spec.topP * total || id === order[0];
    before += weight(id);
    return inside;
  });
  const mass = kept.reduce((sum, id) => sum + weight(id), 0);
  return new Map(kept.sort((a, b) => a - b).map((id) => [id, weight(id) / mass]));
}

/** Checks draw() at the middle of each kept token's share, so that it must return just that token. */
function checkDraws(logits: Float32Array, spec: DrawSpec): void {
  let before = 0;
  for (const [id, probability] of keptProbabilities(logits, spec)) {
    if (probability > 1e-5) {
      expect(native.draw(logits, { ...spec, uniform: before + probability / 2 })).toBe(id);
    }
    before += probability;
  }
}

describe("findNonFinite", () => {
  it("finds the first of any kind, anywhere", () => {
    const logits = randomLogits(1003, 2);
    expect(native.findNonFinite(logits)).toBe(-1);
    for (const value of [Number.NaN, -Number.NaN, Infinity, -Infinity]) {
      for (let id = 0; id < logits.length; id += 17) {
        const copy = logits.slice();
        copy[id] = value;
        copy[1002] = Number.NaN;
        expect(native.findNonFinite(copy)).toBe(id);
      }
    }
  });

  it("takes the greatest and the least floats for finite", () => {
    expect(native.findNonFinite(Float32Array.of(3.4028234e38, -3.4028234e38, 1e-45))).toBe(-1);
  });
});

describe("argmax", () => {
  it("finds the greatest anywhere, the lowest of equals", () => {
    const logits = randomLogits(1003, 1);
    for (let id = 0; id < logits.length; id += 17) {
      const copy = logits.slice();
      copy[id] = 100;
      copy[1002] = 100;
      expect(native.argmax(copy)).toBe(id);
    }
    expect(native.argmax(new Float32Array(50).fill(-2))).toBe(0);
    expect(native.argmax(new Float32Array(50).fill(-Infinity))).toBe(0);
  });

  it("leaves NaN out", () => {
    expect(native.argmax(Float32Array.of(Number.NaN, 1, Number.NaN, 2, Number.NaN))).toBe(3);
  });

  it("refuses an empty row", () => {
    expectError(() => native.argmax(new Float32Array()), "logits has 0 elements");
  });
});

describe("draw", () => {
  const settings: Partial<DrawSpec>[] = [
    {},
    { temperature: 0.3 },
    { temperature: 2.5 },
    { topK: 1 },
    { topK: 7 },
    { topK: 1000 },
    { topP: 0.5 },
    { topP: 0.95 },
    { topP: 0.0001 },
    { minP: 0.1 },
    { minP: 1 },
    { topK: 20, topP: 0.8, minP: 0.02, temperature: 0.7 },
    { topK: 5, topP: 0.3, temperature: 1.4 },
  ];

  it.each(settings)("follows the exact probabilities with %j", (setting) => {
    for (const seed of [2, 3, 4]) checkDraws(randomLogits(60, seed, 2), { ...plain, ...setting });
  });

  it("keeps all ties at the k-th place, and ties of top_p in id order", () => {
    const logits = Float32Array.of(1, 2, 1, 3, 1, 0);
    checkDraws(logits, { ...plain, topK: 3 });
    expect(keptProbabilities(logits, { ...plain, topK: 3 }).size).toBe(5);
    checkDraws(new Float32Array(8), { ...plain, topP: 0.5 });
    expect([...keptProbabilities(new Float32Array(8), { ...plain, topP: 0.5 }).keys()]).toEqual([
      0, 1, 2, 3,
    ]);
  });

  it("keeps the likeliest token whatever is asked", () => {
    const logits = Float32Array.of(0, 5, -Infinity, 5);
    expect(native.draw(logits, { ...plain, topP: 0, uniform: 0.9 })).toBe(1);
    expect(native.draw(logits, { ...plain, temperature: 1e-40, topK: 1, uniform: 0.2 })).toBe(1);
  });

  it("never draws a masked token", () => {
    const logits = new Float32Array(1000).fill(-Infinity);
    logits[500] = -3;
    for (const uniform of [0, 0.5, 1 - 2 ** -53]) {
      expect(native.draw(logits, { ...plain, uniform })).toBe(500);
    }
  });

  it("draws as often as the probabilities say", () => {
    const logits = randomLogits(40, 5, 1.5);
    const spec = { ...plain, topP: 0.9, temperature: 0.8 };
    const probabilities = keptProbabilities(logits, spec);
    const counts = new Map<number, number>();
    const draws = 40_000;
    for (let i = 0; i < draws; i++) {
      // A low-discrepancy sequence: every share is met almost exactly.
      const token = native.draw(logits, { ...spec, uniform: (i * 0.6180339887498949) % 1 });
      counts.set(token, (counts.get(token) ?? 0) + 1);
    }
    expect([...counts.keys()].sort()).toEqual([...probabilities.keys()].sort());
    for (const [id, probability] of probabilities) {
      expect((counts.get(id) ?? 0) / draws).toBeCloseTo(probability, 3);
    }
  });

  it.each([
    {},
    { topK: 50 },
    { topP: 0.9 },
    { topK: 100_000, topP: 0.999, temperature: 2 },
    { topK: 20, topP: 0.8, minP: 0.01, temperature: 0.7 },
  ] as Partial<DrawSpec>[])("agrees with sorting at a full vocabulary with %j", (setting) => {
    const spec = { ...plain, ...setting };
    const logits = randomLogits(vocab, 6);
    const probabilities = keptProbabilities(logits, spec);
    for (const uniform of [0, 0.123, 0.5, 0.9999]) {
      const token = native.draw(logits, { ...spec, uniform });
      expect(probabilities.has(token)).toBe(true);
      let before = 0;
      for (const [id, probability] of probabilities) {
        if (id === token) break;
        before += probability;
      }
      expect(before).toBeLessThanOrEqual(uniform + 1e-5);
      expect(before + probabilities.get(token)!).toBeGreaterThanOrEqual(uniform - 1e-5);
    }
  });

  it("refuses wrong controls and logits without a finite greatest", () => {
    const logits = new Float32Array(4);
    const refused = (setting: Partial<DrawSpec>, message: string) =>
      expectError(() => native.draw(logits, { ...plain, ...setting }), `draw: ${message}`);
    refused({ temperature: 0 }, "temperature is 0.000000, expected more than 0");
    refused({ temperature: Number.NaN }, "temperature is nan");
    refused({ topP: 1.1 }, "topP is 1.100000, expected 0 to 1");
    refused({ uniform: 1 }, "uniform is 1.000000, expected 0 to 1 without 1");
    refused({ topK: 2.5 }, "topK is 2.5, expected an integer");
    refused({ minP: undefined as never }, "minP is undefined, expected a number");
    logits.fill(-Infinity);
    refused({}, "the greatest logit is not finite");
  });
});

describe("topLogprobs", () => {
  /** log(sum(exp)) in float64. */
  function logSumExp(logits: Float32Array): number {
    const best = logits.reduce((most, x) => Math.max(most, x), -Infinity);
    return best + Math.log(logits.reduce((sum, x) => sum + Math.exp(x - best), 0));
  }

  it.each([0, 1, 5, 20, 5000])("gives the %d greatest at a full vocabulary", (k) => {
    const logits = randomLogits(vocab, 8);
    // Ties, also across the cut.
    const fifth = logits[ranked(logits)[4]!]!;
    logits.fill(fifth, 100, 110);
    const token = 77;
    const top = native.topLogprobs(logits, k, token);
    const order = ranked(logits).slice(0, k);
    expect([...top.tokenIds]).toEqual(order);
    const normaliser = logSumExp(logits);
    order.forEach((id, i) => {
      expect(top.logprobs[i]).toBeCloseTo(logits[id]! - normaliser, 4);
    });
    expect(top.tokenLogprob).toBeCloseTo(logits[token]! - normaliser, 4);
    expect(top.tokenRank).toBe(1 + logits.reduce((n, x) => n + (x > logits[token]! ? 1 : 0), 0));
  });

  it("gives all with k = -1, or with more than there are", () => {
    const logits = randomLogits(300, 9);
    const all = native.topLogprobs(logits, -1, 0);
    expect([...all.tokenIds]).toEqual(ranked(logits));
    expect(all.logprobs.reduce((sum, x) => sum + Math.exp(x), 0)).toBeCloseTo(1, 5);
    expect(native.topLogprobs(logits, 1000, 0)).toEqual(all);
  });

  it("keeps the id order of equals and handles masked tokens", () => {
    const logits = Float32Array.of(1, -0, 0, -Infinity, 1);
    const top = native.topLogprobs(logits, 4, 3);
    expect([...top.tokenIds]).toEqual([0, 4, 1, 2]);
    expect(top.tokenLogprob).toBe(-Infinity);
    expect(top.tokenRank).toBe(5);
  });

  it("refuses a token outside the vocabulary", () => {
    expectError(
      () => native.topLogprobs(new Float32Array(4), 1, 4),
      "topLogprobs: tokenId is 4, expected an integer from 0 to 3",
    );
  });
});
