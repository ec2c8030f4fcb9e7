import type { EngineConfig } from "../config/engine-config.js";
import type { SparseCounts, SparseNews } from "../messages/index.js";
import type { SparseStats } from "../scheduler/index.js";

/** What sparse attention came to since the start, for stats and metrics. */
export interface SparseReport extends SparseStats {
  /** The method's name. */
  method: string;
  /** Bytes of the arena that sequences do without now, and the most that they ever did. */
  savedBytes: number;
  peakSavedBytes: number;
  recall: RecallSummary;
  /** Null until the first sequence was watched. */
  counts: SparseCounts | null;
}

/** Shares of the true attention mass that the kept blocks covered, on sampled steps. */
export interface RecallSummary {
  samples: number;
  /** 0 to 1; null without samples. */
  mean: number | null;
  /** One sample in twenty is at most this. */
  p5: number | null;
}

/** Resolution of the percentile. */
const BINS = 1000;

/** Collects what the workers tell of sparse attention. */
export class SparseTotals {
  readonly #method: string;
  readonly #bytesPerBlock: number;
  readonly #bins = new Uint32Array(BINS + 1);
  #samples = 0;
  #sum = 0;
  #counts: SparseCounts | null = null;

  constructor(method: string, { kvBytes, numBlocks }: EngineConfig["cache"]) {
    this.#method = method;
    this.#bytesPerBlock = kvBytes / numBlocks;
  }

  receive({ recalls, counts }: SparseNews): void {
    this.#counts = counts;
    for (const recall of recalls) {
      this.#samples += 1;
      this.#sum += recall;
      this.#bins[Math.round(Math.min(Math.max(recall, 0), 1) * BINS)]! += 1;
    }
  }

  report(stats: SparseStats): SparseReport {
    return {
      ...stats,
      method: this.#method,
      savedBytes: stats.droppedBlocks * this.#bytesPerBlock,
      peakSavedBytes: stats.peakDroppedBlocks * this.#bytesPerBlock,
      recall: {
        samples: this.#samples,
        mean: this.#samples === 0 ? null : this.#sum / this.#samples,
        p5: this.#samples === 0 ? null : this.#percentile(0.05),
      },
      counts: this.#counts,
    };
  }

  #percentile(share: number): number {
    let left = share * this.#samples;
    const bin = this.#bins.findIndex((count) => {
      left -= count;
      return left <= 0;
    });
    return bin / BINS;
  }
}
