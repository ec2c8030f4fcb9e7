import { setImmediate as nextTurn } from "node:timers/promises";
import type {
  StepMessage,
  StepResultMessage,
  StoreBlockStatus,
  StoreDump,
  StoreLoad,
  StoreLookup,
  StoreNews,
  StoreTier,
} from "../messages/index.js";

/** How long a step without tokens waits for the store before it returns without news. */
const WAIT_MS = 20;

/** The store of a worker, whose blocks are the arena's. Nothing here rejects: failures are statuses. */
export interface BlockStore {
  lookup(keys: readonly string[]): Promise<(StoreTier | null)[]>;
  /** keys[i] into block blockIds[i]; the blocks may be written until it settles, and not after. */
  load(keys: readonly string[], blockIds: Int32Array): Promise<StoreBlockStatus[]>;
  /** Has read the blocks when it returns; settles when they are stored, true, or are not. */
  dump(keys: readonly string[], blockIds: Int32Array): Promise<boolean[]>;
  /** Removes blocks. */
  forget(keys: readonly string[]): Promise<void>;
  /** Finishes what is under way, for some seconds at most. */
  close(): Promise<void>;
}

/** Does the store work of steps beside their computing, and collects what became of it. */
export class StoreRunner {
  readonly #store: BlockStore;
  #news: StoreNews = emptyNews();
  #dumps: readonly StoreDump[] = [];
  #numPending = 0;
  #numComputed = 0;
  #wake: () => void = () => undefined;

  constructor(store: BlockStore) {
    this.#store = store;
  }

  /**
   * Runs a step with its store work: look-ups and loads go on beside the computing, and the result
   * says what was finished. One that computes nothing waits a moment for the first to be.
   */
  async run(
    message: StepMessage,
    compute: (message: StepMessage) => Promise<StepResultMessage>,
  ): Promise<StepResultMessage> {
    for (const lookup of message.store?.lookups ?? []) void this.#track(this.#lookUp(lookup));
    for (const load of message.store?.loads ?? []) void this.#track(this.#load(load));
    const forgets = message.store?.forgets ?? [];
    if (forgets.length > 0) void this.#store.forget(forgets);
    const isIdle = message.scheduled.length === 0;
    if (!isIdle) this.#numComputed += 1;
    const result = await compute(message);
    const failed = new Set(result.failed.map(({ seqId }) => seqId));
    this.#dumps = message.store?.dumps.filter(({ seqId }) => !failed.has(seqId)) ?? [];
    return { ...result, store: await this.#collect(isIdle) };
  }

  /**
   * Copies the blocks that the last step filled into the store, but for sequences that failed in it.
   * To be called once its result is on its way, before the next step, which may write to the blocks.
   */
  dump(): void {
    for (const { keys, blockIds } of this.#dumps) void this.#dump(keys, blockIds);
    this.#dumps = [];
  }

  async close(): Promise<void> {
    await this.#store.close();
  }

  async #collect(isIdle: boolean): Promise<StoreNews | null> {
    // Completions arrive by the event loop, which computing keeps from turning.
    if (this.#numPending > 0) await nextTurn();
    if (isIdle && this.#numPending > 0 && isEmpty(this.#news)) await this.#first();
    const news = this.#news;
    this.#news = emptyNews();
    return isEmpty(news) ? null : news;
  }

  async #lookUp({ taskId, keys }: StoreLookup): Promise<void> {
    const tiers = await this.#store.lookup(keys);
    this.#news.found.push({ taskId, tiers });
  }

  async #load({ taskId, keys, blockIds }: StoreLoad): Promise<void> {
    const started = performance.now();
    const numComputed = this.#numComputed;
    const statuses = await this.#store.load(keys, blockIds);
    const isUndisturbed = this.#numComputed === numComputed;
    const durationMs = isUndisturbed ? performance.now() - started : null;
    this.#news.loaded.push({ taskId, statuses, durationMs });
  }

  async #dump(keys: readonly string[], blockIds: Int32Array): Promise<void> {
    const isStored = await this.#store.dump(keys, blockIds);
    this.#news.notStored.push(...keys.filter((_, i) => !isStored[i]));
  }

  async #track(task: Promise<void>): Promise<void> {
    this.#numPending += 1;
    await task;
    this.#numPending -= 1;
    this.#wake();
  }

  #first(): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, WAIT_MS);
      this.#wake = () => {
        clearTimeout(timer);
        this.#wake = () => undefined;
        resolve();
      };
    });
  }
}

function emptyNews(): StoreNews {
  return { found: [], loaded: [], notStored: [] };
}

function isEmpty({ found, loaded, notStored }: StoreNews): boolean {
  return found.length + loaded.length + notStored.length === 0;
}
