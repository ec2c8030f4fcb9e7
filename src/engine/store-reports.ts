import type { StoreReport } from "../messages/index.js";
import { type EngineObserver, type StoreSnapshot, storeSeries } from "../metrics/index.js";
import { type CountKind, carryOn } from "./carried-counts.js";

type Tiers = StoreSnapshot["tiers"];

/** What the workers of each rank told of their stores, one worker after the other. */
export class StoreReports {
  readonly #latest = new Map<number, Tiers>();
  /** Of workers that have been replaced. */
  readonly #past = new Map<number, Tiers>();
  readonly #observer: EngineObserver | null;

  constructor(observer: EngineObserver | null = null) {
    this.#observer = observer;
  }

  /** By rank. */
  get snapshots(): StoreSnapshot[] {
    return [...this.#latest.keys()]
      .sort((a, b) => a - b)
      .map((rank) => ({ rank, tiers: this.#tiersOf(rank) }));
  }

  receive(rank: number, { tiers, bytesPerBlock, transfers }: StoreReport): void {
    this.#latest.set(rank, tiers);
    for (const { kind, blocks, durationMs } of transfers) {
      const bytes = blocks * bytesPerBlock;
      this.#observer?.transferred({ kind, blocks, bytes, durationMs });
    }
  }

  /** The workers are gone: those that follow them count from zero. */
  endWorkers(): void {
    for (const rank of this.#latest.keys()) this.#past.set(rank, this.#tiersOf(rank));
    for (const [rank, tiers] of this.#latest) this.#latest.set(rank, zeroTotals(tiers));
  }

  #tiersOf(rank: number): Tiers {
    return carryOn(this.#past.get(rank), this.#latest.get(rank)!, kindOfStoreCount);
  }
}

function kindOfStoreCount(name: string): CountKind {
  return storeSeries[name]?.type === "total" ? "total" : "present";
}

/** Nothing counted yet; sizes are unknown until a worker tells them. */
function zeroTotals(tiers: Tiers): Tiers {
  const zeros = (counts: Readonly<Record<string, number>>) =>
    Object.keys(counts).flatMap((name) => (kindOfStoreCount(name) === "total" ? [[name, 0]] : []));
  const entries = Object.entries(tiers).map(([tier, counts]) => [
    tier,
    Object.fromEntries(zeros(counts)),
  ]);
  return Object.fromEntries(entries);
}
