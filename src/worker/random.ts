/**
 * Counter-based random numbers: Philox4x32-10 (Salmon, Moraes, Dror, Shaw, "Parallel random numbers:
 * as easy as 1, 2, 3", SC 2011). A draw is a pure function of key and counter, so a sequence's draws
 * depend neither on its batch mates nor on how often it was preempted.
 */

const MULTIPLIER_0 = 0xd2511f53;
const MULTIPLIER_1 = 0xcd9e8d57;
/** Key increments: golden ratio and sqrt(3) - 1. */
const WEYL_0 = 0x9e3779b9;
const WEYL_1 = 0xbb67ae85;
const ROUNDS = 10;

/** Four 32-bit words in, four out. */
export type Words4 = readonly [number, number, number, number];

/** One Philox4x32-10 block: unsigned 32-bit words of counter and key to four random ones. */
export function philox4x32(counter: Words4, key: readonly [number, number]): Words4 {
  let [c0, c1, c2, c3] = counter;
  let [k0, k1] = key;
  for (let round = 0; round < ROUNDS; round++) {
    const high0 = multiplyHigh(MULTIPLIER_0, c0);
    const high1 = multiplyHigh(MULTIPLIER_1, c2);
    const low0 = Math.imul(MULTIPLIER_0, c0) >>> 0;
    const low1 = Math.imul(MULTIPLIER_1, c2) >>> 0;
    [c0, c1, c2, c3] = [(high1 ^ c1 ^ k0) >>> 0, low1, (high0 ^ c3 ^ k1) >>> 0, low0];
    k0 = (k0 + WEYL_0) >>> 0;
    k1 = (k1 + WEYL_1) >>> 0;
  }
  return [c0, c1, c2, c3];
}

/**
 * Draw `index` of a stream, uniform in [0, 1) with 53 bits. `seed` is any safe integer; streams of
 * one seed are independent of each other. `stream` null is the stream of the seed itself.
 */
export function uniform(seed: number, stream: number | null, index: number): number {
  const counter: Words4 = [
    index >>> 0,
    stream === null ? 0 : 1,
    low(stream ?? 0),
    high(stream ?? 0),
  ];
  const [a, b] = philox4x32(counter, [low(seed), high(seed)]);
  return ((a >>> 5) * 2 ** 26 + (b >>> 6)) / 2 ** 53;
}

function low(value: number): number {
  return value >>> 0;
}

function high(value: number): number {
  return Math.floor(value / 2 ** 32) >>> 0;
}

/** Upper 32 bits of the 64-bit product of two unsigned 32-bit words. */
function multiplyHigh(a: number, b: number): number {
  const aLow = a & 0xffff;
  const aHigh = a >>> 16;
  const bLow = b & 0xffff;
  const bHigh = b >>> 16;
  const middle = aHigh * bLow + ((aLow * bLow) >>> 16);
  const carry = aLow * bHigh + (middle & 0xffff);
  return aHigh * bHigh + (middle >>> 16) + (carry >>> 16);
}
