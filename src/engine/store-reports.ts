import type { StoreReport } from "../messages/index.js";
import type { EngineObserver, StoreSnapshot } from "../metrics/index.js";

/** What the workers last told of their stores. */
export class StoreReports {
  readonly #latest = new Map<number, StoreSnapshot>();
  readonly #observer: EngineObserver | null;

  constructor(observer: EngineObserver | null = null) {
    this.#observer = observer;
  }

  /** By rank. */
  get snapshots(): StoreSnapshot[] {
    return [...this.#latest.values()].sort((a, b) => a.rank - b.rank);
  }

  receive(rank: number, { tiers, bytesPerBlock, transfers }: StoreReport): void {
    this.#latest.set(rank, { rank, tiers });
    for (const { kind, blocks, durationMs } of transfers) {
      const bytes = blocks * bytesPerBlock;
      this.#observer?.transferred({ kind, blocks, bytes, durationMs });
    }
  }
}
