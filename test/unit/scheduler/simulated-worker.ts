import type {
  StepMessage,
  StepResultMessage,
  WorkerSampling,
} from "../../../src/messages/index.js";

interface WorkerSequence {
  promptLength: number;
  tokenIds: number[];
  /** Element p stands for the salt and tokens 0 to p: all that keys and values at p depend on. */
  contents: number[];
  sampling: WorkerSampling;
  blockTable: number[];
  numComputed: number;
}

/** What a slot of the arena holds: the keys and values of a token after certain others. */
export interface Slot {
  /** Who wrote it; others may read it. */
  seqId: number;
  position: number;
  tokenId: number;
  content: number;
}

export interface WorkerShape {
  blockSize: number;
  numBlocks: number;
  vocabSize: number;
  /** Blocks may come from a store: steps may be empty, and block tables longer than needed. */
  hasStore?: boolean;
  /** What a sequence shares its cached blocks under, null for nothing. */
  saltOf?: (seqId: number) => string | null;
}

/** The next token after all known ones. */
export type NextToken = (tokenIds: readonly number[], promptLength: number) => number;

/**
 * A worker whose arena holds facts instead of numbers. It trusts nothing: it refuses a step that
 * breaks the protocol, reads what it is told is computed already, and before it samples it reads back
 * every position of the sequence, so that a block that was shared wrongly, reused too early or not
 * recomputed is found.
 */
export class SimulatedWorker {
  readonly #shape: WorkerShape;
  readonly #nextToken: NextToken;
  readonly #sequences = new Map<number, WorkerSequence>();
  readonly #forgotten = new Set<number>();
  readonly #arena: (Slot | undefined)[];
  #inFlight: StepMessage | null = null;
  /** Sequences that computed behind a load that was not good: what they hold must not be used. */
  readonly #vain = new Set<number>();
  #lastStepId = 0;

  constructor(shape: WorkerShape, next?: NextToken) {
    this.#shape = shape;
    this.#nextToken = next ?? ((tokenIds) => nextToken(tokenIds, shape.vocabSize));
    this.#arena = new Array(shape.numBlocks * shape.blockSize).fill(undefined);
  }

  /** Sequences whose tokens the worker keeps. */
  get seqIds(): number[] {
    return [...this.#sequences.keys()];
  }

  blockTable(seqId: number): readonly number[] {
    return this.#sequences.get(seqId)!.blockTable;
  }

  /** The tokens sampled for a live sequence so far. */
  outputOf(seqId: number): number[] {
    const { tokenIds, promptLength } = this.#sequences.get(seqId)!;
    return tokenIds.slice(promptLength);
  }

  /** The content of a block, as a store copies it out. */
  readBlock(blockId: number): (Slot | undefined)[] {
    const { blockSize } = this.#shape;
    return this.#arena.slice(blockId * blockSize, (blockId + 1) * blockSize);
  }

  /** Overwrites a block, as a store does that loads into it. */
  writeBlock(blockId: number, slots: readonly (Slot | undefined)[]): void {
    for (const [i, slot] of slots.entries()) {
      this.#arena[blockId * this.#shape.blockSize + i] = slot;
    }
  }

  /** Receives a step: all checks that need no computing. */
  begin(step: StepMessage): void {
    assert(this.#inFlight === null, "one step at a time");
    assert(step.stepId === ++this.#lastStepId, `step ids count up: ${step.stepId}`);
    for (const seqId of step.finished) {
      assert(this.#sequences.delete(seqId), `finished ${seqId} is known`);
      // One that computed in vain comes again.
      if (!this.#vain.delete(seqId)) this.#forgotten.add(seqId);
    }
    for (const { seqId, promptTokenIds, sampling } of step.newSequences) {
      assert(!this.#sequences.has(seqId) && !this.#forgotten.has(seqId), `${seqId} is new`);
      const sequence: WorkerSequence = {
        promptLength: promptTokenIds.length,
        tokenIds: [],
        contents: [],
        sampling,
        blockTable: [],
        numComputed: 0,
      };
      this.#sequences.set(seqId, sequence);
      for (const tokenId of promptTokenIds) this.#append(seqId, sequence, tokenId);
    }
    const seqIds = step.scheduled.map(({ seqId }) => seqId);
    const isBusy = seqIds.length > 0 || this.#shape.hasStore === true;
    assert(isBusy && new Set(seqIds).size === seqIds.length, "each sequence once");
    for (const { seqId } of step.newSequences) assert(seqIds.includes(seqId), "new: scheduled");
    for (const scheduled of step.scheduled) this.#extend(scheduled, step);
    this.#inFlight = step;
  }

  /**
   * Computes the step that begin() received: writes, reads back, samples. `isLoaded` says which loads
   * are over and good; what is computed behind another one is garbage.
   */
  finish(isLoaded: (taskId: number) => boolean = () => true): StepResultMessage {
    const step = this.#inFlight!;
    this.#inFlight = null;
    for (const { seqId, numTokens, awaitsLoad } of step.scheduled) {
      this.#write(seqId, numTokens);
      if (awaitsLoad !== undefined && !isLoaded(awaitsLoad)) this.#spoil(seqId, numTokens);
    }
    const sampled = step.scheduled
      .filter(({ seqId }) => {
        const sequence = this.#sequences.get(seqId)!;
        return sequence.numComputed === sequence.tokenIds.length;
      })
      .map(({ seqId }) => ({ seqId, tokenId: this.#sample(seqId), logprobs: null }));
    return {
      type: "stepResult",
      stepId: step.stepId,
      sampled,
      failed: [],
      promptLogprobs: [],
      durationMs: 0,
    };
  }

  #extend(scheduled: StepMessage["scheduled"][number], step: StepMessage): void {
    const { seqId, numComputedTokens, numTokens, newBlockIds, resetBlockTable } = scheduled;
    const { blockSize, numBlocks } = this.#shape;
    const sequence = this.#sequences.get(seqId);
    assert(sequence !== undefined, `scheduled ${seqId} is known`);
    if (resetBlockTable) {
      sequence.blockTable = [];
      sequence.numComputed = numComputedTokens;
      assert(numComputedTokens % blockSize === 0, `${seqId}: hits are whole blocks`);
      assert(
        numComputedTokens === 0 || sequence.sampling.promptLogprobs === null,
        `${seqId}: all of a prompt to be scored is computed`,
      );
    }
    assert(sequence.numComputed === numComputedTokens, `${seqId}: computed ${numComputedTokens}`);
    const end = numComputedTokens + numTokens;
    assert(numTokens >= 1 && end <= sequence.tokenIds.length, `${seqId}: ${numTokens} tokens`);
    sequence.blockTable.push(...newBlockIds);
    const excess = sequence.blockTable.length - Math.ceil(end / blockSize);
    assert(
      excess === 0 || (excess > 0 && this.#shape.hasStore === true),
      `${seqId}: enough blocks`,
    );
    assert(new Set(sequence.blockTable).size === sequence.blockTable.length, `${seqId}: no double`);
    for (const id of newBlockIds) assert(id >= 0 && id < numBlocks, `block ${id} exists`);
    if (scheduled.awaitsLoad !== undefined) {
      assert(resetBlockTable && step.scheduled.length === 1, `${seqId}: alone behind a load`);
    } else if (resetBlockTable) {
      this.#read(seqId, sequence, numComputedTokens);
    }
    assert(!this.#vain.has(seqId), `${seqId}: forgotten before it is scheduled again`);
  }

  /** What attention over blocks that are not there makes of keys and values. */
  #spoil(seqId: number, numTokens: number): void {
    const sequence = this.#sequences.get(seqId)!;
    this.#vain.add(seqId);
    for (let i = 1; i <= numTokens; i++) {
      const slot = this.#arena[this.#slot(sequence, sequence.numComputed - i)]!;
      slot.content = ~slot.content;
    }
  }

  #write(seqId: number, numTokens: number): void {
    const sequence = this.#sequences.get(seqId)!;
    for (let i = 0; i < numTokens; i++) {
      const position = sequence.numComputed++;
      this.#arena[this.#slot(sequence, position)] = {
        seqId,
        position,
        tokenId: sequence.tokenIds[position]!,
        content: sequence.contents[position]!,
      };
    }
  }

  /** The first `length` tokens as the arena has them. */
  #read(seqId: number, sequence: WorkerSequence, length: number): number[] {
    return sequence.tokenIds.slice(0, length).map((tokenId, position) => {
      const slot = this.#arena[this.#slot(sequence, position)];
      const isRight =
        slot?.position === position &&
        slot.tokenId === tokenId &&
        slot.content === sequence.contents[position];
      assert(isRight, `${seqId} reads ${JSON.stringify(slot)} at position ${position}`);
      return slot.tokenId;
    });
  }

  #sample(seqId: number): number {
    const sequence = this.#sequences.get(seqId)!;
    if (this.#vain.has(seqId)) {
      this.#append(seqId, sequence, 0);
      return 0;
    }
    const read = this.#read(seqId, sequence, sequence.tokenIds.length);
    const tokenId = this.#nextToken(read, sequence.promptLength);
    this.#append(seqId, sequence, tokenId);
    return tokenId;
  }

  #append(seqId: number, { tokenIds, contents }: WorkerSequence, tokenId: number): void {
    const before = contents.at(-1) ?? hashText(this.#shape.saltOf?.(seqId) ?? "");
    tokenIds.push(tokenId);
    contents.push(mix(before, tokenId));
  }

  #slot({ blockTable }: WorkerSequence, position: number): number {
    const { blockSize } = this.#shape;
    return blockTable[Math.floor(position / blockSize)]! * blockSize + (position % blockSize);
  }
}

/** One step of FNV-1a. */
export function mix(hash: number, value: number): number {
  return Math.imul(hash ^ value, 0x01000193) >>> 0;
}

export function hashText(text: string): number {
  return [...Buffer.from(text)].reduce(mix, 0x811c9dc5);
}

/** The token that follows, a function of all before it. */
export function nextToken(tokenIds: readonly number[], vocabSize: number): number {
  return tokenIds.reduce(mix, 0x811c9dc5) % vocabSize;
}

function assert(condition: boolean, what: string): asserts condition {
  if (!condition) throw new Error(`Protocol: ${what}`);
}
