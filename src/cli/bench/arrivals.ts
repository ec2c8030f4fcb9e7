import type { RandomSource } from "./random-source.js";

export interface ArrivalPlan {
  /** Requests per second; Infinity sends all at once. */
  rate: number;
  /** Shape of the gamma distribution of gaps: 1 is a Poisson process, smaller is burstier. */
  burstiness: number;
  /** Replaces the constant rate. */
  rampUp: { strategy: "linear" | "exponential"; startRps: number; endRps: number } | null;
}

/**
 * Seconds from the start at which each of `count` requests is sent, as vLLM's benchmark plans them: sums
 * of gaps, stretched so that a constant rate is met exactly.
 */
export function planArrivals(count: number, plan: ArrivalPlan, random: RandomSource): number[] {
  let time = 0;
  const times = Array.from({ length: count }, (_, index) => {
    const rate = rateAt(index, count, plan);
    if (rate !== Number.POSITIVE_INFINITY) {
      time +=
        plan.burstiness === Number.POSITIVE_INFINITY
          ? 1 / rate
          : random.gamma(plan.burstiness) / (rate * plan.burstiness);
    }
    return time;
  });
  if (plan.rampUp !== null || time === 0) return times;
  const stretch = count / plan.rate / time;
  return times.map((at) => at * stretch);
}

function rateAt(index: number, count: number, { rate, rampUp }: ArrivalPlan): number {
  if (rampUp === null) return rate;
  const { strategy, startRps, endRps } = rampUp;
  const progress = index / Math.max(count - 1, 1);
  return strategy === "linear"
    ? startRps + (endRps - startRps) * progress
    : startRps * (endRps / startRps) ** progress;
}
