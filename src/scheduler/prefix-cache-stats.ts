import type { PrefixCacheSummary } from "./types.js";

/** Requests that the hit rate is of, as in vLLM. */
const WINDOW = 1000;

/** Tokens that were looked up in the prefix cache and tokens found there. */
export interface PrefixCacheCounts {
  queries: number;
  hits: number;
}

/** Counts look-ups of sequences at their first admission. */
export class PrefixCacheStats {
  /** Since the start. */
  readonly total: PrefixCacheCounts = { queries: 0, hits: 0 };
  readonly #recent: PrefixCacheCounts = { queries: 0, hits: 0 };
  /** The counts behind `#recent`, a ring. */
  readonly #ring: PrefixCacheCounts[] = [];
  #numRecorded = 0;

  record(counts: PrefixCacheCounts): void {
    const place = this.#numRecorded++ % WINDOW;
    const oldest = this.#ring[place] ?? { queries: 0, hits: 0 };
    this.#ring[place] = counts;
    for (const key of ["queries", "hits"] as const) {
      this.total[key] += counts[key];
      this.#recent[key] += counts[key] - oldest[key];
    }
  }

  get summary(): PrefixCacheSummary {
    return { ...this.total, hitRate: this.hitRate };
  }

  /** Share of the tokens of the last 1000 look-ups that was found, 0 to 1. */
  get hitRate(): number {
    return this.#recent.queries === 0 ? 0 : this.#recent.hits / this.#recent.queries;
  }
}
