import type { StoreLoaded, StoreNews, StoreTier } from "../messages/index.js";
import type { BlockManager, CachedPrefix } from "./block-manager.js";
import type { KvConnector, LoadFailure } from "./kv-connector.js";
import type { FollowedLoad } from "./load-follower.js";
import type { Sequence } from "./sequence.js";

/** What is known of the blocks that the store has of a waiting sequence. */
export type ExternalPrefixState =
  /** Nothing: it may be asked. */
  | { kind: "unknown" }
  | { kind: "asking"; firstBlock: number }
  /** Entry i is where block firstBlock + i is; what it waits for is pinned there. */
  | {
      kind: "known";
      firstBlock: number;
      tiers: readonly (StoreTier | null)[];
      pin: Pin | null;
    }
  /** It has been loaded, or is not to be. */
  | { kind: "settled" };

/** Blocks that are kept in the store for a sequence. */
interface Pin {
  pinId: number;
  count: number;
}

interface Load {
  sequence: Sequence;
  pin: Pin | null;
  /** A step has computed behind it, or does. */
  isFollowed: boolean;
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
  /** Blocks that may be pinned in all: more than the arena holds could not be loaded soon. */
  readonly #maxPinned: number;
  #numPinned = 0;
  #failures: LoadFailure[] = [];

  constructor(options: {
    connector: KvConnector;
    blocks: BlockManager;
    blockSize: number;
    numBlocks: number;
    sharesArena: boolean;
  }) {
    this.#connector = options.connector;
    this.#blocks = options.blocks;
    this.#blockSize = options.blockSize;
    this.#sharesArena = options.sharesArena;
    this.#maxPinned = options.numBlocks;
  }

  /** Whether the store still writes to blocks of a sequence that has ended, or is to be told of it. */
  get hasLeftovers(): boolean {
    const loads = [...this.#loading.values()];
    const isWritten = loads.some(({ sequence }) => sequence.status === "finished");
    return isWritten || this.#connector.owesStep;
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
    this.unpinFor(sequence);
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
    this.#loading.set(taskId, { sequence, keys, tiers, pin: external.pin, isFollowed: false });
    sequence.external = { kind: "settled" };
    sequence.status = "loading";
  }

  /** The first load that no step has followed, which one now does; null for none. */
  nextToFollow(): Omit<FollowedLoad, "numTokens"> | null {
    for (const [taskId, load] of this.#loading) {
      if (load.isFollowed) continue;
      load.isFollowed = true;
      const { sequence, keys } = load;
      return {
        sequence,
        taskId,
        begin: sequence.numComputedTokens + keys.length * this.#blockSize,
      };
    }
    return null;
  }

  /**
   * Keeps in the store what was found for sequences that go on waiting, in their order, so that it is
   * still there when their turn comes.
   */
  pinFor(waiting: readonly Sequence[]): void {
    for (const { external, blockHashes } of waiting) {
      if (external.kind !== "known" || external.pin !== null) continue;
      const count = runLength(external.tiers);
      if (count === 0 || this.#numPinned + count > this.#maxPinned) continue;
      const end = external.firstBlock + count;
      const pinId = this.#connector.pin(blockHashes!.hashes.slice(external.firstBlock, end));
      external.pin = { pinId, count };
      this.#numPinned += count;
    }
  }

  /** Lets go of what is kept for a sequence that waits for it no more. */
  unpinFor({ external }: Sequence): void {
    if (external.kind !== "known" || external.pin === null) return;
    this.#unpin(external.pin);
    external.pin = null;
  }

  /** Takes what the store answered. */
  receive(news: StoreNews): void {
    for (const { taskId, tiers } of news.found) {
      const sequence = this.#asking.get(taskId);
      this.#asking.delete(taskId);
      if (sequence?.external.kind !== "asking") continue;
      const { firstBlock } = sequence.external;
      sequence.external = { kind: "known", firstBlock, tiers, pin: null };
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
  #finish({ sequence, keys, tiers, pin }: Load, { statuses }: StoreLoaded): void {
    if (pin !== null) this.#unpin(pin);
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

  #unpin({ pinId, count }: Pin): void {
    this.#connector.unpin(pinId);
    this.#numPinned -= count;
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
