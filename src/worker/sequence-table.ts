import { UcmError } from "../errors/index.js";
import type { NewSequence, ScheduledSequence, WorkerSampling } from "../messages/index.js";

/** What a worker knows of one sequence: its tokens, its block table, its sampling state. */
export interface WorkerSequence<State> {
  readonly seqId: number;
  readonly sampling: WorkerSampling;
  readonly promptLength: number;
  /** Prompt and sampled tokens; the first `length` are known. */
  tokenIds: Int32Array;
  length: number;
  blockIds: number[];
  /** Blocks that the table lacks of the sequence's tokens, under sparse attention. */
  numDroppedBlocks: number;
  /** Prompt positions whose log-probabilities were sent; a preempted prompt is not scored twice. */
  promptScored: number;
  readonly state: State;
}

export interface SequenceTable<State> {
  readonly size: number;
  add(sequence: NewSequence): void;
  get(seqId: number): WorkerSequence<State>;
  /** Applies block table changes and checks the step against what is known of the sequence. */
  schedule(step: ScheduledSequence): WorkerSequence<State>;
  append(sequence: WorkerSequence<State>, tokenId: number): void;
  forget(seqIds: Int32Array): void;
}

/**
 * The sequences of a worker, by id. A step that does not fit them is a defect of the engine, never
 * of a user: UCM_ERR_INTERNAL.
 */
export function createSequenceTable<State>(
  blockSize: number,
  createState: (sequence: NewSequence) => State,
): SequenceTable<State> {
  const sequences = new Map<number, WorkerSequence<State>>();
  const get = (seqId: number) => {
    const sequence = sequences.get(seqId);
    if (sequence === undefined) throw brokenStep(seqId, "is not known");
    return sequence;
  };
  return {
    get size() {
      return sequences.size;
    },
    add(sequence) {
      const { seqId, promptTokenIds, sampling } = sequence;
      if (sequences.has(seqId)) throw brokenStep(seqId, "is new but known");
      const tokenIds = new Int32Array(promptTokenIds.length + 64);
      tokenIds.set(promptTokenIds);
      sequences.set(seqId, {
        seqId,
        sampling,
        promptLength: promptTokenIds.length,
        tokenIds,
        length: promptTokenIds.length,
        blockIds: [],
        numDroppedBlocks: 0,
        promptScored: 0,
        state: createState(sequence),
      });
    },
    get,
    schedule(step) {
      const sequence = get(step.seqId);
      if (step.resetBlockTable) {
        sequence.blockIds = [];
        sequence.numDroppedBlocks = 0;
      }
      sequence.blockIds.push(...step.newBlockIds);
      const end = step.numComputedTokens + step.numTokens;
      if (step.numTokens < 1 || end > sequence.length) {
        throw brokenStep(step.seqId, `is scheduled to token ${end} of ${sequence.length}`);
      }
      const numBlocks = sequence.blockIds.length + sequence.numDroppedBlocks;
      if (numBlocks * blockSize < end) {
        throw brokenStep(step.seqId, `has ${numBlocks} blocks for ${end} tokens`);
      }
      return sequence;
    },
    append(sequence, tokenId) {
      if (sequence.length === sequence.tokenIds.length) {
        const grown = new Int32Array(sequence.length * 2);
        grown.set(sequence.tokenIds);
        sequence.tokenIds = grown;
      }
      sequence.tokenIds[sequence.length++] = tokenId;
    },
    forget(seqIds) {
      for (const seqId of seqIds) sequences.delete(seqId);
    },
  };
}

function brokenStep(seqId: number, what: string): UcmError {
  return new UcmError("UCM_ERR_INTERNAL", `Sequence ${seqId} ${what}.`);
}
