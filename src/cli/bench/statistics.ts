/** Summary of a list of numbers as numpy computes it; all 0 for an empty list. */
export interface Summary {
  mean: number;
  median: number;
  /** Of the population. */
  std: number;
  /** By percentile, linearly interpolated. */
  percentiles: Map<number, number>;
}

export function summarize(values: readonly number[], percentiles: readonly number[]): Summary {
  const sorted = [...values].sort((a, b) => a - b);
  const mean = sorted.length === 0 ? 0 : sum(sorted) / sorted.length;
  const variance =
    sorted.length === 0 ? 0 : sum(sorted.map((value) => (value - mean) ** 2)) / sorted.length;
  return {
    mean,
    median: percentileOf(sorted, 50),
    std: Math.sqrt(variance),
    percentiles: new Map(percentiles.map((p) => [p, percentileOf(sorted, p)])),
  };
}

/** Percentile `p` (0 to 100) of ascending values; 0 without values. */
export function percentileOf(sorted: readonly number[], p: number): number {
  if (sorted.length === 0) return 0;
  const position = ((sorted.length - 1) * p) / 100;
  const below = Math.floor(position);
  const low = sorted[below]!;
  const high = sorted[Math.min(below + 1, sorted.length - 1)]!;
  return low + (high - low) * (position - below);
}

export function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}
