import type { StoreLoaded, StoreNews, StoreTier } from "../messages/index.js";
import type { BlockManager, CachedPrefix } from "./block-manager.js";
import type { KvConnector, LoadFailure } from "./kv-connector.js";
import type { Sequence } from "./sequence.js";

/** What is known of the blocks that the store has of a waiting sequence. */
export type ExternalPrefixState =
  /** Nothing: it may be asked. */
  | { kind: "unknown" }
  | { kind: "asking"; firstBlock: number }
  /** Entry i is where block firstBlock + i is. */
  | { kind: "known"; firstBlock: number; tiers: readonly (StoreTier | null)[] }
  /** It has been loaded, or is not to be. */
  | { kind: "settled" };

interface Load {
  sequence: Sequence;
  keys: readonly string[];
  tiers: readonly StoreTier[];
}

/**
 * Prefixes of waiting sequences that are in the store: asks for them, loads them into blocks that the
 * sequence then holds, and keeps the blocks of a sequence that ended while it was loading until the
 * store writes to them no more.
 */
export class ExternalPrefixes {
  readonly #connector: KvConnector;
  readonly #blocks: BlockManager;
  readonly #blockSize: number;
  readonly #sharesArena: boolean;
  readonly #asking = new Map<number, Sequence>();
  readonly #loading = new Map<number, Load>();
  #failures: LoadFailure[] = [];

  constructor(options: {
    connector: KvConnector;
    blocks: BlockManager;
    blockSize: number;
    sharesArena: boolean;
  }) {
    this.#connector = options.connector;
    this.#blocks = options.blocks;
    this.#blockSize = options.blockSize;
    this.#sharesArena = options.sharesArena;
  }

  /** Whether blocks of a sequence that has ended are still written by the store. */
  get hasAbandonedLoads(): boolean {
    return [...this.#loading.values()].some(({ sequence }) => sequence.status === "finished");
  }

  /**
   * Blocks to load after the `prefix` that the arena has; 0 for none, null when that is not known
   * yet. Nobody waits for a sequence of which this is null.
   */
  consider(sequence: Sequence, prefix: CachedPrefix): number | null {
    const { external } = sequence;
    if (!this.#connector.canLoad || prefix.missing === null || external.kind === "settled")
      return 0;
    if (external.kind === "asking" || this.#isBeingLoaded(prefix.missing)) return null;
    const numArena = prefix.blockIds.length;
    if (external.kind === "known" && external.firstBlock <= numArena) {
      const numFound = runLength(external.tiers.slice(numArena - external.firstBlock));
      return numFound > 0 && this.#connector.isWorthLoading(numFound) ? numFound : 0;
    }
    const maxBlocks = this.#blocks.maxPrefixBlocks(sequence);
    const taskId = this.#connector.lookup(sequence.blockHashes!.hashes.slice(numArena, maxBlocks));
    this.#asking.set(taskId, sequence);
    sequence.external = { kind: "asking", firstBlock: numArena };
    sequence.numTokensAsked = sequence.numTokens;
    return null;
  }

  /** Loads `count` blocks of a sequence that was admitted after its prefix in the arena. */
  start(sequence: Sequence, count: number): void {
    const { external, blockTable, blockHashes } = sequence;
    if (external.kind !== "known") return;
    const first = sequence.numComputedTokens / this.#blockSize;
    const keys = blockHashes!.hashes.slice(first, first + count);
    const from = first - external.firstBlock;
    const tiers = external.tiers.slice(from, from + count) as StoreTier[];
    const taskId = this.#connector.load(keys, blockTable.slice(first, first + count));
    this.#loading.set(taskId, { sequence, keys, tiers });
    sequence.external = { kind: "settled" };
    sequence.status = "loading";
  }

  /** Takes what the store answered. */
  receive(news: StoreNews): void {
    for (const { taskId, tiers } of news.found) {
      const sequence = this.#asking.get(taskId);
      this.#asking.delete(taskId);
      if (sequence?.external.kind !== "asking") continue;
      sequence.external = { ...sequence.external, kind: "known", tiers };
    }
    for (const loaded of news.loaded) {
      const load = this.#loading.get(loaded.taskId);
      this.#loading.delete(loaded.taskId);
      if (load !== undefined) this.#finish(load, loaded);
    }
  }

  /** The loads that failed since the last call. */
  takeFailures(): LoadFailure[] {
    const failures = this.#failures;
    this.#failures = [];
    return failures;
  }

  /** The good blocks up to the first bad one need not be computed. */
  #finish({ sequence, keys, tiers }: Load, { statuses }: StoreLoaded): void {
    if (sequence.status === "finished") {
      this.#blocks.release(sequence);
      return;
    }
    const numGood = runLength(keys.map((_, i) => (statuses[i] === "ok" ? true : null)));
    sequence.status = "waiting";
    sequence.numComputedTokens += numGood * this.#blockSize;
    sequence.loadedFrom = tiers.slice(0, numGood);
    this.#blocks.index(sequence);
    if (numGood === keys.length) return;
    this.#failures.push({
      seqId: sequence.seqId,
      numTokens: (keys.length - numGood) * this.#blockSize,
      isFatal: this.#connector.failsWithLoad,
    });
  }

  #isBeingLoaded(hash: string): boolean {
    if (!this.#sharesArena) return false;
    for (const { keys, sequence } of this.#loading.values()) {
      if (sequence.status !== "finished" && keys.includes(hash)) return true;
    }
    return false;
  }
}

/** Entries before the first null. */
function runLength(entries: readonly unknown[]): number {
  const end = entries.indexOf(null);
  return end < 0 ? entries.length : end;
}
