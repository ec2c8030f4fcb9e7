import type {
  StoreConfig,
  StoreDump,
  StoreLoad,
  StoreLookup,
  StoreNews,
  StorePin,
  StoreWork,
} from "../messages/index.js";
import { LoadEstimate } from "./load-estimate.js";

/** Keys that are remembered to be in the store, so that their blocks are not sent to it again. */
const STORED_KEYS_MAX = 1 << 16;

/**
 * The scheduler's end of the KV cache store: collects what the next step asks of it, hands out what
 * became of it, and knows by its role and by what it measured what is worth asking for.
 */
export class Connector {
  readonly #config: StoreConfig;
  readonly #estimate: LoadEstimate;
  /** Insertion-ordered: the first is the oldest. */
  readonly #stored = new Set<string>();
  #lookups: StoreLookup[] = [];
  #loads: StoreLoad[] = [];
  #dumps: StoreDump[] = [];
  #forgets: string[] = [];
  #pins: StorePin[] = [];
  #unpins: number[] = [];
  #numTasks = 0;
  /** Keys of each look-up and load that has not been answered. */
  readonly #pending = new Map<number, readonly string[]>();

  constructor(config: StoreConfig, shape: { bytesPerBlock: number; blockSize: number }) {
    this.#config = config;
    this.#estimate = new LoadEstimate(shape);
  }

  get canLoad(): boolean {
    return this.#config.canLoad;
  }

  /** A request fails with its load, in place of computing the tokens. */
  get failsWithLoad(): boolean {
    return this.#config.loadFailurePolicy === "fail";
  }

  /** Whether look-ups or loads have not been answered. */
  get isBusy(): boolean {
    return this.#pending.size > 0;
  }

  /** Whether pins are to be let go, or blocks of an earlier step to be stored, with the next one. */
  get owesStep(): boolean {
    return this.#unpins.length > 0 || this.#dumps.some(({ isFilled }) => isFilled);
  }

  /** Asks where blocks are; the answer bears the id returned. */
  lookup(keys: readonly string[]): number {
    const taskId = this.#newTask(keys);
    this.#lookups.push({ taskId, keys });
    return taskId;
  }

  /** Starts a load; its blocks belong to the store until the answer. */
  load(keys: readonly string[], blockIds: readonly number[]): number {
    const taskId = this.#newTask(keys);
    this.#loads.push({ taskId, keys, blockIds: Int32Array.from(blockIds) });
    return taskId;
  }

  /** Stores blocks that the next step fills, or the last one filled: those not known to be there. */
  dump({
    seqId,
    keys,
    blockIds,
    isFilled,
  }: Omit<StoreDump, "blockIds"> & { blockIds: readonly number[] }): void {
    if (!this.#config.canDump) return;
    const missing = keys.map((_, i) => i).filter((i) => !this.#stored.has(keys[i]!));
    if (missing.length === 0) return;
    this.#dumps.push({
      seqId,
      keys: missing.map((i) => keys[i]!),
      blockIds: Int32Array.from(missing, (i) => blockIds[i]!),
      isFilled,
    });
    for (const i of missing) this.#remember(keys[i]!);
  }

  /** Removes blocks from the store. */
  forget(keys: readonly string[]): void {
    if (!this.#config.canDump) return;
    this.#forgets.push(...keys);
    for (const key of keys) this.#stored.delete(key);
  }

  /** Keeps blocks in the store, as far as they are there, until unpin(); returns the pin's id. */
  pin(keys: readonly string[]): number {
    const pinId = ++this.#numTasks;
    this.#pins.push({ pinId, keys });
    return pinId;
  }

  unpin(pinId: number): void {
    this.#unpins.push(pinId);
  }

  /** Whether to load so many blocks rather than to compute them. */
  isWorthLoading(numBlocks: number): boolean {
    return this.#config.loadDecision === "always" || this.#estimate.isFaster(numBlocks);
  }

  /** What was asked for since the last call, for the step that is about to go. */
  takeWork(): StoreWork | null {
    const work = {
      lookups: this.#lookups,
      loads: this.#loads,
      dumps: this.#dumps,
      forgets: this.#forgets,
      pins: this.#pins,
      unpins: this.#unpins,
    };
    this.#lookups = [];
    this.#loads = [];
    this.#dumps = [];
    this.#forgets = [];
    this.#pins = [];
    this.#unpins = [];
    const isEmpty = Object.values(work).every((list) => list.length === 0);
    return isEmpty ? null : work;
  }

  /** Takes in the news of a step; `numTokens` were computed in `durationMs`. */
  receive(news: StoreNews | null, step: { numTokens: number; durationMs: number }): void {
    this.#estimate.observeStep(step.numTokens, step.durationMs);
    if (news === null) return;
    for (const { taskId, tiers } of news.found) {
      this.#settle(
        taskId,
        tiers.map((tier) => tier !== null),
      );
    }
    for (const { taskId, statuses, durationMs } of news.loaded) {
      const isOk = statuses.map((status) => status === "ok");
      this.#settle(taskId, isOk);
      if (durationMs !== null) this.#estimate.observeLoad(isOk.filter(Boolean).length, durationMs);
    }
    for (const key of news.notStored) this.#stored.delete(key);
  }

  #newTask(keys: readonly string[]): number {
    const taskId = ++this.#numTasks;
    this.#pending.set(taskId, keys);
    return taskId;
  }

  /** Ends a task; what it said of each key is true of the store now. */
  #settle(taskId: number, isStored: readonly boolean[]): void {
    const keys = this.#pending.get(taskId) ?? [];
    this.#pending.delete(taskId);
    for (const [i, key] of keys.entries()) {
      if (isStored[i]) this.#remember(key);
      else this.#stored.delete(key);
    }
  }

  #remember(key: string): void {
    // Without look-ups nobody would notice that the store has let go of a block.
    if (!this.#config.canLoad) return;
    this.#stored.add(key);
    if (this.#stored.size > STORED_KEYS_MAX)
      this.#stored.delete(this.#stored.values().next().value!);
  }
}
