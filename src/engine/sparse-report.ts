import type { EngineConfig } from "../config/engine-config.js";
import { log } from "../log/index.js";
import type { SparseCounts, SparseNews } from "../messages/index.js";
import type { EngineObserver } from "../metrics/index.js";
import type { SparseBudgets, SparseStats } from "../scheduler/index.js";
import { sparseBudget } from "../sparse/index.js";
import { carryOn, kindOfCount } from "./carried-counts.js";

/** What sparse attention came to since the start, for stats and metrics. */
export interface SparseReport extends SparseStats {
  /** The method's name. */
  method: string;
  /** Bytes of the arena that sequences do without now, and the most that they ever did. */
  savedBytes: number;
  peakSavedBytes: number;
  /** The most that keys and values of the dense layers ever took outside the arena. */
  peakDenseLayerBytes: number;
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
  readonly #observer: Pick<EngineObserver, "recalled"> | null;
  readonly #bins = new Uint32Array(BINS + 1);
  #samples = 0;
  #sum = 0;
  #counts: SparseCounts | null = null;
  /** Of workers that have been replaced. */
  #past: SparseCounts | null = null;
  #peakDenseLayerBytes = 0;

  constructor(
    method: string,
    { kvBytes, numBlocks }: EngineConfig["cache"],
    observer: Pick<EngineObserver, "recalled"> | null,
  ) {
    this.#method = method;
    this.#observer = observer;
    this.#bytesPerBlock = kvBytes / numBlocks;
  }

  /** Takes what workers tell, and says which requests go on with dense attention. */
  receive(news: SparseNews, requestIdOf: (seqId: number) => string | undefined): void {
    const { recalls, counts } = news;
    const tell = (seqIds: readonly number[], what: string) => {
      for (const seqId of seqIds) {
        const requestId = requestIdOf(seqId);
        if (requestId !== undefined) log.warning(`Request ${requestId}: ${what}`);
      }
    };
    tell(news.refused, "the KV cache store has no room for its blocks; its attention stays dense.");
    tell(
      news.lost,
      "blocks that left the KV cache could not be read back from the store; it is computed again, with dense attention.",
    );
    this.#counts = carryOn(this.#past, counts, kindOfCount);
    this.#peakDenseLayerBytes = Math.max(this.#peakDenseLayerBytes, counts.denseLayerBytes);
    for (const recall of recalls) {
      this.#observer?.recalled(recall);
      this.#samples += 1;
      this.#sum += recall;
      this.#bins[Math.round(Math.min(Math.max(recall, 0), 1) * BINS)]! += 1;
    }
  }

  /** The workers are gone: those that follow them count from zero. */
  endWorkers(): void {
    if (this.#counts === null) return;
    this.#counts = { ...this.#counts, representationBytes: 0, denseLayerBytes: 0 };
    this.#past = this.#counts;
  }

  report(stats: SparseStats): SparseReport {
    return {
      ...stats,
      method: this.#method,
      savedBytes: stats.droppedBlocks * this.#bytesPerBlock,
      peakSavedBytes: stats.peakDroppedBlocks * this.#bytesPerBlock,
      peakDenseLayerBytes: this.#peakDenseLayerBytes,
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

/** What the scheduler keeps of prompts, null when attention is dense. */
export function sparseBudgets({
  sparse,
  cache: { blockSize },
}: EngineConfig): SparseBudgets | null {
  return sparse === null ? null : (promptTokens) => sparseBudget(sparse, promptTokens, blockSize);
}
