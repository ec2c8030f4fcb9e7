import type {
  AttentionCost,
  ScheduledSequence,
  SparseNews,
  SparseWatch,
  StepMessage,
} from "../messages/index.js";
import type {
  Communicator,
  SparseAttention,
  SparseBatchSpec,
  SparseBudget,
} from "../native/index.js";
import type { BatchEntry } from "./batch.js";
import { encodeKeys } from "./block-keys.js";
import type { WorkerSequence } from "./sequence-table.js";

/** The part of a store that keeps blocks which left the arena. */
export interface PinningStore {
  /** Keeps blocks from removal: true for those that are there. */
  pin(keys: readonly string[]): Promise<boolean[]>;
  unpin(keys: readonly string[]): void;
  /** Has read the blocks when it returns; settles when they are stored. */
  dump(keys: readonly string[], blockIds: Int32Array): Promise<boolean[]>;
  /** Resolves when the dumps that are under way have ended. */
  settleDumps(): Promise<void>;
}

/** A sequence that is watched or has entered. */
interface Member {
  readonly seqId: number;
  readonly budget: SparseBudget;
  hasEntered: boolean;
  /** Nothing of it is to be read or reported any more. */
  hasLeft: boolean;
  /** Keys that are to be unpinned when it leaves. */
  readonly pinned: string[];
}

/** A step's attention, as its sequences are to be counted. */
export interface StepAttention {
  micros: number;
  entries: readonly BatchEntry<unknown>[];
}

/**
 * The worker's end of sparse attention: holds the candidates of watched sequences safe in the store,
 * hands sequences to the native part between steps, and collects what came of them.
 */
export class SparseRunner {
  readonly #attention: SparseAttention;
  readonly #store: PinningStore;
  readonly #members = new Map<number, Member>();
  readonly #costs = { dense: noCost(), sparse: noCost() };
  #ready: number[] = [];
  #refused: number[] = [];
  #lost: number[] = [];
  #hasNews = false;
  #hasEnded = false;

  constructor(attention: SparseAttention, store: PinningStore) {
    this.#attention = attention;
    this.#store = store;
  }

  /**
   * Does what a step asks for before anything of it is written: lets go of sequences, the finished
   * ones too, enters some, watches some. `find` gives their block tables as they were after the last
   * step.
   */
  begin(
    { finished, sparse }: Pick<StepMessage, "finished" | "sparse">,
    find: (seqId: number) => WorkerSequence<unknown>,
  ): void {
    this.#leave([...finished, ...(sparse?.leave ?? [])]);
    for (const { seqId, slots } of sparse?.enter ?? []) {
      const member = this.#members.get(seqId)!;
      const { init, candidates } = member.budget;
      this.#attention.enter(seqId, slots);
      member.hasEntered = true;
      const sequence = find(seqId);
      sequence.blockIds.splice(init, candidates, ...slots);
      sequence.numDroppedBlocks = candidates - slots.length;
    }
    for (const watch of sparse?.watch ?? []) this.#watch(watch, find(watch.seqId));
  }

  /**
   * Gets the entered sequences of a step ready to attend. Returns those that cannot be computed, as a
   * block that they need is lost: what one rank has lost all leave out.
   */
  settle(scheduled: readonly ScheduledSequence[], comm: Communicator | null): ReadonlySet<number> {
    const seqIds = scheduled.map(({ seqId }) => seqId);
    const entered = seqIds.filter((seqId) => this.#members.get(seqId)?.hasEntered);
    if (entered.length === 0) return new Set();
    const lostHere = new Set(this.#attention.settle(Int32Array.from(entered)));
    const flags = Float32Array.from(entered, (seqId) => (lostHere.has(seqId) ? 1 : 0));
    comm?.allReduceSum(flags);
    const lost = entered.filter((_, i) => flags[i]! > 0);
    this.#lost.push(...lost);
    return new Set(lost);
  }

  /** What the arena needs to know of the members in a batch; undefined when there are none. */
  describe(entries: readonly BatchEntry<unknown>[]): SparseBatchSpec | undefined {
    if (!entries.some(({ sequence }) => this.#members.has(sequence.seqId))) return undefined;
    return {
      attention: this.#attention,
      seqIds: Int32Array.from(entries, ({ sequence: { seqId } }) =>
        this.#members.has(seqId) ? seqId : -1,
      ),
      positions: Int32Array.from(entries, ({ begin }) => begin),
    };
  }

  /** To be called after the model has run a batch that had members. */
  finishStep({ micros, entries }: StepAttention): void {
    this.#attention.finishStep();
    const members = entries.map(({ sequence }) => this.#members.get(sequence.seqId));
    const isPure = (hasEntered: boolean) =>
      members.every((member) => member?.hasEntered === hasEntered);
    const cost = isPure(true) ? this.#costs.sparse : isPure(false) ? this.#costs.dense : null;
    if (cost === null) return;
    cost.steps += 1;
    cost.micros += micros;
    cost.contextTokens += entries.reduce((sum, { end }) => sum + end, 0);
  }

  /** What there is to tell with the result of a step; null when nothing of a member happened. */
  takeNews(): SparseNews | null {
    if (!this.#hasNews && this.#members.size === 0) return null;
    const { lostSequences, sequences, ...counts } = this.#attention.stats();
    const news = {
      ready: this.#ready,
      refused: this.#refused,
      lost: this.#lost,
      recalls: this.#attention.takeRecalls(),
      counts: { ...counts, dense: { ...this.#costs.dense }, sparse: { ...this.#costs.sparse } },
    };
    this.#ready = [];
    this.#refused = [];
    this.#lost = [];
    this.#hasNews = false;
    return news;
  }

  /**
   * Asks nothing more of the store, which is about to be closed, and ends the native part unless a
   * step is using it.
   */
  end({ isStepping }: { isStepping: boolean }): void {
    if (!isStepping) {
      this.#leave([...this.#members.keys()]);
      this.#attention.dispose();
    }
    this.#hasEnded = true;
  }

  #leave(seqIds: readonly number[]): void {
    const members = seqIds.flatMap((seqId) => this.#members.get(seqId) ?? []);
    if (members.length === 0) return;
    this.#hasNews = true;
    this.#attention.leave(Int32Array.from(members, ({ seqId }) => seqId));
    for (const member of members) {
      member.hasLeft = true;
      this.#members.delete(member.seqId);
      if (member.pinned.length > 0) this.#store.unpin(member.pinned);
    }
    const isHere = (seqId: number) => this.#members.has(seqId);
    this.#ready = this.#ready.filter(isHere);
    this.#refused = this.#refused.filter(isHere);
  }

  #watch({ seqId, init, topK, keys }: SparseWatch, { blockIds }: WorkerSequence<unknown>): void {
    const budget = { init, candidates: keys.length, topK };
    const member: Member = { seqId, budget, hasEntered: false, hasLeft: false, pinned: [] };
    this.#members.set(seqId, member);
    const first = Int32Array.from(blockIds.slice(0, init + keys.length));
    this.#attention.watch(seqId, budget, first, encodeKeys(keys));
    void this.#secure(member, keys, first.subarray(init));
  }

  /**
   * Pins the blocks of a member in the store, storing first what it lacks: blocks that were found in
   * the arena may have left the store long ago.
   */
  async #secure(member: Member, keys: readonly string[], blockIds: Int32Array): Promise<void> {
    await this.#store.settleDumps();
    if (member.hasLeft || this.#hasEnded) return;
    let missing = await this.#pin(member, keys);
    if (missing.length > 0 && !member.hasLeft && !this.#hasEnded) {
      const at = new Map(keys.map((key, i) => [key, blockIds[i]!]));
      await this.#store.dump(
        missing,
        Int32Array.from(missing, (key) => at.get(key)!),
      );
      if (!member.hasLeft && !this.#hasEnded) missing = await this.#pin(member, missing);
    }
    if (member.hasLeft) return;
    (missing.length === 0 ? this.#ready : this.#refused).push(member.seqId);
  }

  /** Returns what is not there. What is pinned too late, the member having left, is let go again. */
  async #pin(member: Member, keys: readonly string[]): Promise<string[]> {
    const isPinned = await this.#store.pin(keys);
    const pinned = keys.filter((_, i) => isPinned[i]);
    if (this.#hasEnded) return [];
    if (member.hasLeft && pinned.length > 0) this.#store.unpin(pinned);
    else member.pinned.push(...pinned);
    return keys.filter((_, i) => !isPinned[i]);
  }
}

function noCost(): AttentionCost {
  return { steps: 0, micros: 0, contextTokens: 0 };
}
