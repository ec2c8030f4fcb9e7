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
/** How long a step waits for the load that it computes behind, in all. */
const FOLLOW_MS = 1_000;

/** The store of a worker, whose blocks are the arena's. Nothing here rejects: failures are statuses. */
export interface BlockStore {
  readonly numLayers: number;
  lookup(keys: readonly string[]): Promise<(StoreTier | null)[]>;
  /**
   * keys[i] into block blockIds[i]; the blocks may be written until it settles, and not after.
   * `progress`, int32 [1], is for waitForLayers().
   */
  load(
    keys: readonly string[],
    blockIds: Int32Array,
    progress: Int32Array,
  ): Promise<StoreBlockStatus[]>;
  /** Blocks this thread until a load has so many layers, of the blocks that did not fail so far. */
  waitForLayers(progress: Int32Array, layers: number, timeoutMs: number): boolean;
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

/** A load that is under way. */
interface LoadUnderWay {
  progress: Int32Array;
  settled: Promise<void>;
  startedMs: number;
  /** How long steps have waited for its layers. */
  waitedMs: number;
  /** After what time a step found all of its layers there. */
  wholeMs: number | null;
}

/** Called before the attention of each layer of a step. */
export type BeforeLayer = (layer: number) => void;

/** Does the store work of steps beside their computing, and collects what became of it. */
export class StoreRunner {
  readonly #store: BlockStore;
  #news: StoreNews = emptyNews();
  #dumps: readonly StoreDump[] = [];
  readonly #loads = new Map<number, LoadUnderWay>();
  /** The keys that each pin holds. */
  readonly #pins = new Map<number, Promise<string[]>>();
  readonly #dumping = new Set<Promise<void>>();
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
    compute: (message: StepMessage, beforeLayer: BeforeLayer | null) => Promise<StepResultMessage>,
  ): Promise<StepResultMessage> {
    const dumps = message.store?.dumps ?? [];
    // Before anything writes to these blocks.
    for (const dump of dumps) if (dump.isFilled) this.#startDump(dump);
    for (const lookup of message.store?.lookups ?? []) void this.#track(this.#lookUp(lookup));
    for (const load of message.store?.loads ?? []) this.#startLoad(load);
    for (const pin of message.store?.pins ?? []) this.#pin(pin);
    for (const pinId of message.store?.unpins ?? []) void this.#unpin(pinId);
    const forgets = message.store?.forgets ?? [];
    if (forgets.length > 0) void this.#store.forget(forgets);
    const isIdle = message.scheduled.length === 0;
    if (!isIdle) this.#numComputed += 1;
    const followed = this.#followed(message);
    const result = await compute(message, followed && behind(followed, this.#store));
    // The news is what makes this step's work count; a load that is late is told of later.
    if (followed !== null) await within(timeLeft(followed), followed.settled, undefined);
    const failed = new Set(result.failed.map(({ seqId }) => seqId));
    this.#dumps = dumps.filter(({ seqId, isFilled }) => !isFilled && !failed.has(seqId));
    return { ...result, store: await this.#collect(isIdle) };
  }

  /**
   * Copies the blocks that the last step filled into the store, but for sequences that failed in it.
   * To be called once its result is on its way, before the next step, which may write to the blocks.
   */
  dump(): void {
    for (const dump of this.#dumps) this.#startDump(dump);
    this.#dumps = [];
  }

  /** Resolves when the dumps that are under way have ended. */
  async settleDumps(): Promise<void> {
    await Promise.all(this.#dumping);
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

  /** The load that a step computes behind; null for none, or one that is over. */
  #followed({ scheduled }: StepMessage): LoadUnderWay | null {
    const taskId = scheduled.find(({ awaitsLoad }) => awaitsLoad !== undefined)?.awaitsLoad;
    return taskId === undefined ? null : (this.#loads.get(taskId) ?? null);
  }

  #startLoad({ taskId, keys, blockIds }: StoreLoad): void {
    const progress = new Int32Array(1);
    const startedMs = performance.now();
    const numComputed = this.#numComputed;
    const run = async () => {
      const statuses = await this.#store.load(keys, blockIds, progress);
      const elapsedMs = performance.now() - startedMs;
      // Beside computing its end is noticed late, unless the computing waited for it.
      const isMeasured = this.#numComputed === numComputed || load.waitedMs > elapsedMs / 2;
      const durationMs = load.wholeMs ?? (isMeasured ? elapsedMs : null);
      this.#loads.delete(taskId);
      this.#news.loaded.push({ taskId, statuses, durationMs });
    };
    const settled = Promise.resolve();
    const load: LoadUnderWay = { progress, settled, startedMs, waitedMs: 0, wholeMs: null };
    this.#loads.set(taskId, load);
    load.settled = this.#track(run());
  }

  #startDump(task: StoreDump): void {
    const dump = this.#dump(task).finally(() => this.#dumping.delete(dump));
    this.#dumping.add(dump);
  }

  async #dump({ keys, blockIds }: StoreDump): Promise<void> {
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

function timeLeft({ waitedMs }: LoadUnderWay): number {
  return Math.max(0, FOLLOW_MS - waitedMs);
}

/**
 * Holds attention back until the load has the layer. When it is late, the step goes on with what is
 * there, in vain, so that all ranks go on together.
 */
function behind(load: LoadUnderWay, store: BlockStore): BeforeLayer {
  let isLate = false;
  return (layer) => {
    if (isLate) return;
    const started = performance.now();
    isLate = !store.waitForLayers(load.progress, layer + 1, timeLeft(load));
    const now = performance.now();
    load.waitedMs += now - started;
    const isWhole = Atomics.load(load.progress, 0) >= store.numLayers;
    if (isWhole) load.wholeMs ??= now - load.startedMs;
  };
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
