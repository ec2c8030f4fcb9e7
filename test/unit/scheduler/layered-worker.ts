import type {
  ScheduledSequence,
  SparseCounts,
  SparseEnter,
  SparseWatch,
  StepMessage,
  StepResultMessage,
} from "../../../src/messages/index.js";
import type { RandomInt } from "./random-workload.js";
import { hashText, mix, nextToken, type Slot } from "./simulated-worker.js";

const LAYERS = 3;

/** A sequence on its way into sparse attention, or under it. */
interface Member {
  watch: SparseWatch;
  /** Steps until its candidates are pinned, or refused; below 0 that has been told. */
  steps: number;
  isRefused: boolean;
  /** Steps in which it decoded since it is watched. */
  decodes: number;
  /** What the store holds for it, by candidate. */
  pinned: (Slot | undefined)[][];
  /** Entered: its slots, and per layer the candidate in each. */
  slots: readonly number[] | null;
  chosen: number[][];
  isLost: boolean;
}

interface WorkerSequence {
  tokenIds: number[];
  /** Element p stands for the salt and tokens 0 to p. */
  exact: number[];
  /** The same, but for positions that were computed sparsely. */
  contents: number[];
  blockTable: number[];
  numComputed: number;
  member: Member | null;
}

export interface LayeredShape {
  blockSize: number;
  numBlocks: number;
  vocabSize: number;
  saltOf: (seqId: number) => string | null;
}

/**
 * A worker with sparse attention whose arena holds facts instead of numbers, for every layer by
 * itself. It chooses at random, and before it samples it reads back every block that the sequence
 * keeps in every layer: those it chose must hold what their candidates held, all others the tokens
 * that they stand for. What was computed sparsely is told apart, so that a block of it that is shared
 * or stored is found.
 */
export class LayeredWorker {
  readonly #shape: LayeredShape;
  readonly #random: RandomInt;
  readonly #sequences = new Map<number, WorkerSequence>();
  readonly #arena: (Slot | undefined)[][];
  #inFlight: StepMessage | null = null;
  #lost = new Set<number>();
  /** Sequences that compute behind a load that was not good: what they write is to be used by nobody. */
  #vain = new Set<number>();
  #loseAll = false;
  readonly seen = { entered: 0, fresh: 0, reselected: 0, sparseSteps: 0, refused: 0, lost: 0 };

  constructor(shape: LayeredShape, random: RandomInt) {
    this.#shape = shape;
    this.#random = random;
    this.#arena = Array.from({ length: LAYERS }, () =>
      new Array(shape.numBlocks * shape.blockSize).fill(undefined),
    );
  }

  /** Sequences of which it keeps anything. */
  get size(): number {
    return this.#sequences.size;
  }

  blockTable(seqId: number): readonly number[] {
    return this.#sequences.get(seqId)!.blockTable;
  }

  /** The content of a block as a store copies it; where layers differ it is good for nothing. */
  readBlock(blockId: number): (Slot | undefined)[] {
    const [first, ...others] = this.#arena.map((_, layer) => this.#readLayer(blockId, layer));
    return first!.map((slot, i) =>
      slot === undefined || others.every((layer) => layer[i] === slot)
        ? slot
        : { ...slot, content: -1 },
    );
  }

  writeBlock(blockId: number, slots: readonly (Slot | undefined)[]): void {
    for (let layer = 0; layer < LAYERS; layer++) this.#writeLayer(blockId, layer, slots);
  }

  begin(step: StepMessage): void {
    for (const seqId of step.finished) assert(this.#sequences.delete(seqId), `${seqId} is known`);
    for (const seqId of step.sparse?.leave ?? []) {
      const sequence = this.#sequences.get(seqId);
      if (sequence !== undefined) sequence.member = null;
    }
    for (const enter of step.sparse?.enter ?? []) this.#enter(enter);
    for (const watch of step.sparse?.watch ?? []) this.#watch(watch);
    for (const { seqId, promptTokenIds } of step.newSequences) {
      assert(!this.#sequences.has(seqId), `${seqId} is new`);
      const sequence: WorkerSequence = {
        tokenIds: [],
        exact: [],
        contents: [],
        blockTable: [],
        numComputed: 0,
        member: null,
      };
      this.#sequences.set(seqId, sequence);
      for (const tokenId of promptTokenIds) this.#append(seqId, sequence, tokenId);
    }
    this.#inFlight = step;
    this.#lost = new Set();
    for (const scheduled of step.scheduled) this.#extend(scheduled);
  }

  /** `isLoaded` says which loads are over and good; what is computed behind another one is garbage. */
  finish(isLoaded: (taskId: number) => boolean): StepResultMessage {
    const { stepId, scheduled } = this.#inFlight!;
    const computed = scheduled.filter(({ seqId }) => !this.#lost.has(seqId));
    this.#vain = new Set();
    for (const { seqId, numTokens, awaitsLoad } of computed) {
      if (awaitsLoad !== undefined && !isLoaded(awaitsLoad)) this.#vain.add(seqId);
      this.#write(seqId, numTokens);
    }
    const sampled = computed
      .filter(({ seqId }) => {
        const { numComputed, tokenIds } = this.#sequences.get(seqId)!;
        return numComputed === tokenIds.length;
      })
      .map(({ seqId }) => ({ seqId, tokenId: this.#sample(seqId), logprobs: null }));
    const { ready, refused } = this.#secure();
    return {
      type: "stepResult",
      stepId,
      sampled,
      failed: [],
      promptLogprobs: [],
      durationMs: 2,
      sparse: {
        ready,
        refused,
        lost: [...this.#lost],
        recalls: new Float32Array(0),
        counts: {} as SparseCounts,
      },
    };
  }

  /** From now on no selection finds its blocks. */
  loseAll(): void {
    this.#loseAll = true;
  }

  #watch(watch: SparseWatch): void {
    const sequence = this.#sequences.get(watch.seqId)!;
    assert(sequence.member === null, `${watch.seqId} is not watched yet`);
    assert(watch.topK < watch.keys.length, "something is to leave");
    const end = (watch.init + watch.keys.length) * this.#shape.blockSize;
    assert(end <= sequence.numComputed, `${watch.seqId}: its candidates are full`);
    const pinned = watch.keys.map((_, i) => this.readBlock(sequence.blockTable[watch.init + i]!));
    sequence.member = {
      watch,
      steps: this.#random(0, 4),
      isRefused: this.#random(0, 9) === 0,
      decodes: 0,
      pinned,
      slots: null,
      chosen: [],
      isLost: false,
    };
    this.#readBack(watch.seqId, sequence, end);
  }

  #enter({ seqId, slots }: SparseEnter): void {
    const sequence = this.#sequences.get(seqId)!;
    const { member, blockTable } = sequence;
    assert(member !== null && member.steps < 0 && !member.isRefused, `${seqId} is ready`);
    assert(member.slots === null && member.decodes > 0, `${seqId} has decoded`);
    const { init, keys, topK } = member.watch;
    assert(slots.length === topK && new Set(slots).size === topK, `${seqId}: ${topK} slots`);
    const candidates = blockTable.slice(init, init + keys.length);
    const others = blockTable.filter((id) => !candidates.includes(id));
    assert(!slots.some((id) => others.includes(id)), `${seqId} keeps its other blocks`);
    this.#readBack(seqId, sequence, (init + keys.length) * this.#shape.blockSize);
    this.seen.entered += 1;
    if (slots.some((id) => !candidates.includes(id))) this.seen.fresh += 1;
    member.slots = [...slots];
    member.chosen = Array.from({ length: LAYERS }, () => []);
    blockTable.splice(init, keys.length, ...slots);
    for (let layer = 0; layer < LAYERS; layer++) this.#select(member, layer);
  }

  /** Puts other candidates into the slots of a layer. */
  #select(member: Member, layer: number): void {
    const { keys, topK } = member.watch;
    const left = keys.map((_, i) => i);
    member.chosen[layer] = Array.from({ length: topK }, () => {
      const [index] = left.splice(this.#random(0, left.length - 1), 1);
      return index!;
    });
    for (const [i, blockId] of member.slots!.entries()) {
      this.#writeLayer(blockId, layer, member.pinned[member.chosen[layer]![i]!]!);
    }
  }

  #extend(scheduled: ScheduledSequence): void {
    const { seqId, numComputedTokens, numTokens, newBlockIds, resetBlockTable } = scheduled;
    const sequence = this.#sequences.get(seqId)!;
    if (resetBlockTable) {
      assert(sequence.member === null, `${seqId} has left before it starts anew`);
      sequence.blockTable = [];
      sequence.numComputed = numComputedTokens;
      sequence.contents = [...sequence.exact];
    }
    assert(sequence.numComputed === numComputedTokens, `${seqId}: ${numComputedTokens} computed`);
    sequence.blockTable.push(...newBlockIds);
    const { blockTable, member } = sequence;
    assert(new Set(blockTable).size === blockTable.length, `${seqId}: no block twice`);
    const isFull =
      this.#place(sequence, numComputedTokens + numTokens - 1).block < blockTable.length;
    assert(isFull, `${seqId}: enough blocks`);
    if (resetBlockTable && scheduled.awaitsLoad === undefined) {
      this.#readBack(seqId, sequence, numComputedTokens);
    }
    if (member === null) return;
    assert(numTokens === 1, `${seqId} decodes`);
    member.decodes += 1;
    if (member.slots === null) return;
    if (this.#loseAll || this.#random(0, 39) === 0) member.isLost = true;
    if (!member.isLost) return;
    this.#lost.add(seqId);
    this.seen.lost += 1;
  }

  #write(seqId: number, numTokens: number): void {
    const sequence = this.#sequences.get(seqId)!;
    const isSparse = sequence.member?.slots != null;
    for (let i = 0; i < numTokens; i++) {
      const position = sequence.numComputed++;
      if (isSparse) sequence.contents[position] = mix(sequence.contents[position]!, 0x5ba5);
      const tokenId = sequence.tokenIds[position]!;
      const content = this.#vain.has(seqId) ? -1 : sequence.contents[position]!;
      const slot = { seqId, position, tokenId, content };
      const { block, offset } = this.#place(sequence, position);
      const at = sequence.blockTable[block]! * this.#shape.blockSize + offset;
      for (const layer of this.#arena) layer[at] = slot;
    }
  }

  #sample(seqId: number): number {
    const sequence = this.#sequences.get(seqId)!;
    if (this.#vain.has(seqId)) return 0;
    this.#readBack(seqId, sequence, sequence.numComputed);
    if (sequence.member?.slots != null) this.seen.sparseSteps += 1;
    const tokenId = nextToken(sequence.tokenIds, this.#shape.vocabSize);
    this.#append(seqId, sequence, tokenId);
    const { member } = sequence;
    if (member?.slots != null && this.#random(0, 2) === 0) {
      this.#select(member, this.#random(0, LAYERS - 1));
      this.seen.reselected += 1;
    }
    return tokenId;
  }

  /** All of the first `length` tokens that the sequence keeps, in every layer. */
  #readBack(seqId: number, sequence: WorkerSequence, length: number): void {
    const { blockSize } = this.#shape;
    const { member, blockTable } = sequence;
    for (let layer = 0; layer < LAYERS; layer++) {
      for (const [index, blockId] of blockTable.entries()) {
        const first = this.#firstPosition(member, layer, index) * blockSize;
        for (let i = 0; i < blockSize && first + i < length; i++) {
          const slot = this.#arena[layer]![blockId * blockSize + i];
          const isRight =
            slot?.position === first + i && slot.content === sequence.contents[first + i];
          assert(isRight, `${seqId} reads ${JSON.stringify(slot)} at ${first + i}, layer ${layer}`);
        }
      }
    }
  }

  /** The block of the sequence that entry `index` of its table holds in a layer. */
  #firstPosition(member: Member | null, layer: number, index: number): number {
    if (member?.slots == null) return index;
    const { init, keys, topK } = member.watch;
    if (index < init) return index;
    if (index < init + topK) return init + member.chosen[layer]![index - init]!;
    return index + keys.length - topK;
  }

  #place({ member }: WorkerSequence, position: number): { block: number; offset: number } {
    const { blockSize } = this.#shape;
    const dropped = member?.slots == null ? 0 : member.watch.keys.length - member.watch.topK;
    return { block: Math.floor(position / blockSize) - dropped, offset: position % blockSize };
  }

  /** Watched sequences whose time has come. */
  #secure(): { ready: number[]; refused: number[] } {
    const news = { ready: [] as number[], refused: [] as number[] };
    for (const [seqId, { member }] of this.#sequences) {
      if (member === null || member.steps < 0 || --member.steps >= 0) continue;
      if (member.isRefused) this.seen.refused += 1;
      (member.isRefused ? news.refused : news.ready).push(seqId);
    }
    return news;
  }

  #append(seqId: number, { tokenIds, exact, contents }: WorkerSequence, tokenId: number): void {
    tokenIds.push(tokenId);
    exact.push(mix(exact.at(-1) ?? hashText(this.#shape.saltOf(seqId) ?? ""), tokenId));
    contents.push(exact.at(-1)!);
  }

  #readLayer(blockId: number, layer: number): (Slot | undefined)[] {
    const { blockSize } = this.#shape;
    return this.#arena[layer]!.slice(blockId * blockSize, (blockId + 1) * blockSize);
  }

  #writeLayer(blockId: number, layer: number, slots: readonly (Slot | undefined)[]): void {
    for (const [i, slot] of slots.entries()) {
      this.#arena[layer]![blockId * this.#shape.blockSize + i] = slot;
    }
  }
}

function assert(condition: boolean, what: string): asserts condition {
  if (!condition) throw new Error(`Protocol: ${what}`);
}
