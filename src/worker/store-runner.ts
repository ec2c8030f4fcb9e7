import { setImmediate as nextTurn } from "node:timers/promises";
import type {
  StepMessage,
  StepResultMessage,
  StoreBlockStatus,
  StoreDump,
  StoreLoad,
  StoreLookup,
  StoreNews,
  StorePin,
  StoreTier,
} from "../messages/index.js";

/** How long a step without tokens waits for the store before it returns without news. */
const WAIT_MS = 20;
/** A look-up that takes longer has found nothing: nobody waits for a device that hangs. */
const LOOKUP_MS = 1_000;

/** The store of a worker, whose blocks are the arena's. Nothing here rejects: failures are statuses. */
export interface BlockStore {
  lookup(keys: readonly string[]): Promise<(StoreTier | null)[]>;
  /** keys[i] into block blockIds[i]; the blocks may be written until it settles, and not after. */
  load(keys: readonly string[], blockIds: Int32Array): Promise<StoreBlockStatus[]>;
  /** Has read the blocks when it returns; settles when they are stored, true, or are not. */
  dump(keys: readonly string[], blockIds: Int32Array): Promise<boolean[]>;
  /** Keeps blocks from removal; settles when they are kept, true, or are not there. */
  pin(keys: readonly string[]): Promise<boolean[]>;
  /** Takes back one pin of each. */
  unpin(keys: readonly string[]): void;
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
  /** The keys that each pin holds. */
  readonly #pins = new Map<number, Promise<string[]>>();
  #isClosed = false;
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
    for (const pin of message.store?.pins ?? []) this.#pin(pin);
    for (const pinId of message.store?.unpins ?? []) void this.#unpin(pinId);
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
    this.#isClosed = true;
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
    const nothing = keys.map(() => null);
    const tiers = await within(LOOKUP_MS, this.#store.lookup(keys), nothing);
    this.#news.found.push({ taskId, tiers });
  }

  #pin({ pinId, keys }: StorePin): void {
    const held = this.#store.pin(keys);
    this.#pins.set(
      pinId,
      held.then((isHeld) => keys.filter((_, i) => isHeld[i])),
    );
  }

  async #unpin(pinId: number): Promise<void> {
    const held = await this.#pins.get(pinId);
    this.#pins.delete(pinId);
    // A store that was closed holds nothing any more.
    if (held !== undefined && held.length > 0 && !this.#isClosed) this.#store.unpin(held);
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

/** What `work` settles with, or `otherwise` when that takes too long. */
function within<T>(timeoutMs: number, work: Promise<T>, otherwise: T): Promise<T> {
  return new Promise((resolve) => {
    // An answer that came while a step was computing is taken in the next turn, after the timers.
    const timer = setTimeout(() => setImmediate(resolve, otherwise), timeoutMs);
    void work.then((answer) => {
      clearTimeout(timer);
      resolve(answer);
    });
  });
}

function emptyNews(): StoreNews {
  return { found: [], loaded: [], notStored: [] };
}

function isEmpty({ found, loaded, notStored }: StoreNews): boolean {
  return found.length + loaded.length + notStored.length === 0;
}
