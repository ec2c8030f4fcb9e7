/** How a number goes on when what counted it is replaced: summed, the greater of both, or as it is now. */
export type CountKind = "total" | "peak" | "present";

/** What the scheduler and workers tell that is no total; the names are unique among them. */
const kinds: Readonly<Record<string, CountKind>> = {
  running: "present",
  waiting: "present",
  usedBlocks: "present",
  numBlocks: "present",
  prefixCacheHitRate: "present",
  hitRate: "present",
  droppedBlocks: "present",
  peakDroppedBlocks: "peak",
  representationBytes: "present",
  denseLayerBytes: "present",
};

/** Of the scheduler's statistics and of SparseCounts. */
export function kindOfCount(name: string): CountKind {
  return kinds[name] ?? "total";
}

/**
 * `now` as if it went on from `before`, the last word of what was replaced: totals of a process never go
 * backwards. Objects of numbers, nested or null; `before` may lack what `now` has, and null is nothing.
 */
export function carryOn<T>(before: unknown, now: T, kindOf: (name: string) => CountKind): T {
  if (!isObject(before) || !isObject(now)) return now;
  const carried = Object.entries(now).map(([name, value]) => {
    const old = before[name];
    if (typeof value !== "number") return [name, carryOn(old, value, kindOf)];
    if (typeof old !== "number") return [name, value];
    return [name, combine[kindOf(name)](old, value)];
  });
  return Object.fromEntries(carried) as T;
}

const combine: Record<CountKind, (old: number, value: number) => number> = {
  total: (old, value) => old + value,
  peak: Math.max,
  present: (_, value) => value,
};

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null;
}
