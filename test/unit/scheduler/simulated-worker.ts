import type {
  StepMessage,
  StepResultMessage,
  WorkerSampling,
} from "../../../src/messages/index.js";

interface WorkerSequence {
  promptLength: number;
  tokenIds: number[];
  sampling: WorkerSampling;
  blockTable: number[];
  numComputed: number;
}

/** What a slot of the arena holds: the keys and values of a token at a position of a sequence. */
interface Slot {
  seqId: number;
  position: number;
  tokenId: number;
}

export interface WorkerShape {
  blockSize: number;
  numBlocks: number;
  vocabSize: number;
}

/** The next token after all known ones. */
export type NextToken = (tokenIds: readonly number[], promptLength: number) => number;

/**
 * A worker whose arena holds facts instead of numbers. It trusts nothing: it refuses a step that
 * breaks the protocol, and before it samples it reads back every position of the sequence, so that a
 * block that was shared wrongly, reused too early or not recomputed is found.
 */
export class SimulatedWorker {
  readonly #shape: WorkerShape;
  readonly #nextToken: NextToken;
  readonly #sequences = new Map<number, WorkerSequence>();
  readonly #forgotten = new Set<number>();
  readonly #arena: (Slot | undefined)[];
  #inFlight: StepMessage | null = null;
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

  /** Receives a step: all checks that need no computing. */
  begin(step: StepMessage): void {
    assert(this.#inFlight === null, "one step at a time");
    assert(step.stepId === ++this.#lastStepId, `step ids count up: ${step.stepId}`);
    for (const seqId of step.finished) {
      assert(this.#sequences.delete(seqId), `finished ${seqId} is known`);
      this.#forgotten.add(seqId);
    }
    for (const { seqId, promptTokenIds, sampling } of step.newSequences) {
      assert(!this.#sequences.has(seqId) && !this.#forgotten.has(seqId), `${seqId} is new`);
      const tokenIds = [...promptTokenIds];
      this.#sequences.set(seqId, {
        promptLength: tokenIds.length,
        tokenIds,
        sampling,
        blockTable: [],
        numComputed: 0,
      });
    }
    const seqIds = step.scheduled.map(({ seqId }) => seqId);
    assert(seqIds.length > 0 && new Set(seqIds).size === seqIds.length, "each sequence once");
    for (const { seqId } of step.newSequences) assert(seqIds.includes(seqId), "new: scheduled");
    for (const scheduled of step.scheduled) this.#extend(scheduled);
    this.#inFlight = step;
  }

  /** Computes the step that begin() received: writes, reads back, samples. */
  finish(): StepResultMessage {
    const step = this.#inFlight!;
    this.#inFlight = null;
    for (const { seqId, numTokens } of step.scheduled) this.#write(seqId, numTokens);
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

  #extend(scheduled: StepMessage["scheduled"][number]): void {
    const { seqId, numComputedTokens, numTokens, newBlockIds, resetBlockTable } = scheduled;
    const { blockSize, numBlocks } = this.#shape;
    const sequence = this.#sequences.get(seqId);
    assert(sequence !== undefined, `scheduled ${seqId} is known`);
    if (resetBlockTable) {
      sequence.blockTable = [];
      sequence.numComputed = 0;
    }
    assert(sequence.numComputed === numComputedTokens, `${seqId}: computed ${numComputedTokens}`);
    const end = numComputedTokens + numTokens;
    assert(numTokens >= 1 && end <= sequence.tokenIds.length, `${seqId}: ${numTokens} tokens`);
    sequence.blockTable.push(...newBlockIds);
    assert(sequence.blockTable.length === Math.ceil(end / blockSize), `${seqId}: a block for each`);
    assert(new Set(sequence.blockTable).size === sequence.blockTable.length, `${seqId}: no double`);
    for (const id of newBlockIds) assert(id >= 0 && id < numBlocks, `block ${id} exists`);
  }

  #write(seqId: number, numTokens: number): void {
    const sequence = this.#sequences.get(seqId)!;
    for (let i = 0; i < numTokens; i++) {
      const position = sequence.numComputed++;
      const tokenId = sequence.tokenIds[position]!;
      this.#arena[this.#slot(sequence, position)] = { seqId, position, tokenId };
    }
  }

  #sample(seqId: number): number {
    const sequence = this.#sequences.get(seqId)!;
    const read = sequence.tokenIds.map((tokenId, position) => {
      const slot = this.#arena[this.#slot(sequence, position)];
      assert(
        slot?.seqId === seqId && slot.position === position && slot.tokenId === tokenId,
        `${seqId} reads ${JSON.stringify(slot)} at position ${position}`,
      );
      return slot.tokenId;
    });
    const tokenId = this.#nextToken(read, sequence.promptLength);
    sequence.tokenIds.push(tokenId);
    return tokenId;
  }

  #slot({ blockTable }: WorkerSequence, position: number): number {
    const { blockSize } = this.#shape;
    return blockTable[Math.floor(position / blockSize)]! * blockSize + (position % blockSize);
  }
}

/** The token that follows, a function of all before it (FNV-1a). */
export function nextToken(tokenIds: readonly number[], vocabSize: number): number {
  let hash = 0x811c9dc5;
  for (const tokenId of tokenIds) hash = Math.imul(hash ^ tokenId, 0x01000193) >>> 0;
  return hash % vocabSize;
}

function assert(condition: boolean, what: string): asserts condition {
  if (!condition) throw new Error(`Protocol: ${what}`);
}
