import type {
  StoreBlockStatus,
  StoreDump,
  StoreLoad,
  StoreLookup,
  StoreNews,
  StoreTier,
  StoreWork,
} from "../../../src/messages/index.js";
import type { RandomInt } from "./random-workload.js";
import type { Slot } from "./simulated-worker.js";

/** The arena that blocks are copied from and to. */
interface Arena {
  readBlock(blockId: number): (Slot | undefined)[];
  writeBlock(blockId: number, slots: readonly (Slot | undefined)[]): void;
}

interface Pending<Task> {
  task: Task;
  /** Steps until it is done. */
  steps: number;
}

/**
 * A store that is slow, forgets, finds what it then has not, and damages: everything that the contract
 * of a store allows. Blocks that it is asked to fill hold garbage until it reports them.
 */
export class SimulatedStore {
  readonly #random: RandomInt;
  readonly #worker: Arena;
  readonly #blocks = new Map<string, (Slot | undefined)[]>();
  #lookups: Pending<StoreLookup>[] = [];
  #loads: Pending<StoreLoad>[] = [];
  readonly #pins = new Map<number, readonly string[]>();
  #work: StoreWork | null = null;
  #news: StoreNews = { found: [], loaded: [], notStored: [] };
  readonly seen = { found: 0, loaded: 0, failed: 0, pinned: 0 };

  constructor(random: RandomInt, worker: Arena) {
    this.#random = random;
    this.#worker = worker;
  }

  /** Blocks that it may write to right now. */
  get loadingBlockIds(): Set<number> {
    return new Set(this.#loads.flatMap(({ task }) => [...task.blockIds]));
  }

  get numPins(): number {
    return this.#pins.size;
  }

  begin(work: StoreWork | null): void {
    this.#work = work;
    // Before the step computes: blocks of an earlier one may have another use now.
    for (const dump of work?.dumps ?? []) if (dump.isFilled) this.#dump(dump);
    for (const key of work?.forgets ?? []) this.#blocks.delete(key);
    for (const { pinId, keys } of work?.pins ?? []) {
      if (this.#pins.has(pinId)) throw new Error("a pin of its own each time");
      this.#pins.set(pinId, keys);
      this.seen.pinned += keys.length;
    }
    for (const pinId of work?.unpins ?? []) {
      if (!this.#pins.delete(pinId)) throw new Error("unpinned what was not pinned");
    }
    for (const task of work?.lookups ?? []) {
      this.#lookups.push({ task, steps: this.#random(0, 3) });
    }
    for (const task of work?.loads ?? []) {
      if (task.keys.length !== task.blockIds.length) throw new Error("one block per key");
      const steps = [0, 0, 0, this.#random(0, 6), 40][this.#random(0, 4)]!;
      this.#loads.push({ task, steps });
    }
    this.#scribble();
  }

  /** Ends tasks while the step computes. */
  advance(): void {
    this.#scribble();
    const news = this.#news;
    for (const task of take(this.#lookups)) {
      const tiers = task.keys.map((key) => this.#tierOf(key));
      news.found.push({ taskId: task.taskId, tiers });
      this.seen.found += tiers.filter((tier) => tier !== null).length;
    }
    for (const task of take(this.#loads)) {
      const statuses = task.keys.map((key, i) => this.#fill(key, task.blockIds[i]!));
      news.loaded.push({ taskId: task.taskId, statuses, durationMs: this.#random(0, 5) || null });
    }
    this.#lookups = this.#lookups.filter(({ steps }) => steps >= 0);
    this.#loads = this.#loads.filter(({ steps }) => steps >= 0);
  }

  /** Whether a load was over, and brought all its blocks, when the step had been computed. */
  hasLoaded(taskId: number): boolean {
    const load = this.#news.loaded.find((loaded) => loaded.taskId === taskId);
    return load?.statuses.every((status) => status === "ok") ?? false;
  }

  /** What was finished, and the dumps of the step, which has been computed. */
  finish(failedSeqIds: ReadonlySet<number>): StoreNews | null {
    for (const dump of this.#work?.dumps ?? []) {
      if (!dump.isFilled && !failedSeqIds.has(dump.seqId)) this.#dump(dump);
    }
    const news = this.#news;
    this.#news = { found: [], loaded: [], notStored: [] };
    const pinned = new Set([...this.#pins.values()].flat());
    for (const key of this.#blocks.keys()) {
      if (this.#random(0, 99) === 0 && !pinned.has(key)) this.#blocks.delete(key);
    }
    return Object.values(news).every((list) => list.length === 0) ? null : news;
  }

  #dump({ keys, blockIds }: StoreDump): void {
    for (const [i, key] of keys.entries()) {
      if (this.#random(0, 19) === 0) this.#news.notStored.push(key);
      else this.#blocks.set(key, this.#worker.readBlock(blockIds[i]!));
    }
  }

  #tierOf(key: string): StoreTier | null {
    if (!this.#blocks.has(key)) return this.#random(0, 49) === 0 ? "file" : null;
    return this.#random(0, 1) === 0 ? "memory" : "file";
  }

  #fill(key: string, blockId: number): StoreBlockStatus {
    const slots = this.#blocks.get(key);
    if (slots !== undefined && this.#random(0, 14) > 0) {
      this.#worker.writeBlock(blockId, slots);
      this.seen.loaded += 1;
      return "ok";
    }
    this.seen.failed += 1;
    return slots === undefined ? "missing" : (["corrupt", "failed"] as const)[this.#random(0, 1)]!;
  }

  #scribble(): void {
    for (const blockId of this.loadingBlockIds) {
      const garbage = this.#worker.readBlock(blockId).map(() => ({
        seqId: -1,
        position: -1,
        tokenId: -1,
        content: this.#random(0, 1 << 30),
      }));
      this.#worker.writeBlock(blockId, garbage);
    }
  }
}

/** Counts down and returns the tasks that are done. */
function take<Task>(pending: Pending<Task>[]): Task[] {
  for (const entry of pending) entry.steps -= 1;
  return pending.filter(({ steps }) => steps < 0).map(({ task }) => task);
}
