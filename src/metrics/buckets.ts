/** 1, 2, 5, 10, 20, 50 … up to `max`, as vLLM cuts counts of tokens. */
export function oneTwoFive(max: number): number[] {
  const buckets: number[] = [];
  for (let decade = 1; ; decade *= 10) {
    for (const mantissa of [1, 2, 5]) {
      if (mantissa * decade > max) return buckets;
      buckets.push(mantissa * decade);
    }
  }
}

/** vLLM's, in seconds. */
export const firstTokenBuckets = [
  ...[0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20],
  ...[40, 80, 160, 640, 2560],
];
export const tokenBuckets = [
  ...[0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40],
  80,
];
export const requestBuckets = [
  ...[0.3, 0.5, 0.8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60, 120, 240, 480, 960, 1920, 7680],
];
export const iterationBuckets = [1, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384];

const range = (from: number, to: number, step: number) =>
  Array.from({ length: Math.round((to - from) / step) + 1 }, (_, i) => from + i * step);

/** UCM's. */
export const transferRequestBuckets = [1, 5, 10, 20, 50, 100, 200, 500, 1000];
export const transferBlockBuckets = [...range(0, 400, 50), ...range(550, 1000, 50)];
export const transferSpeedBuckets = [
  ...range(1, 15, 1),
  ...range(20, 40, 5),
  ...range(50, 100, 10),
];
export const hitRateBuckets = range(0, 10, 1).map((tenths) => tenths / 10);

/** Close together where the worst samples of a good configuration are. */
export const recallBuckets = range(1, 20, 1).map((twentieths) => twentieths / 20);
