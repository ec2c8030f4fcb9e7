import { UcmError } from "../errors/index.js";
import type { LogprobRows, StepMessage, StepResultMessage } from "../messages/index.js";
import { BlockPool } from "./block-pool.js";
import { type SchedulingPolicy, type SequenceOrder, sequenceOrders } from "./policy.js";
import { Sequence, type SequenceInput } from "./sequence.js";
import { StepBatch } from "./step-batch.js";
import { matchSamples, type StepInFlight } from "./step-result.js";
import { checkStop, type SequenceFinish } from "./stop-check.js";
import { WaitingQueue } from "./waiting-queue.js";

export interface SchedulerConfig {
  /** Tokens per block. */
  readonly blockSize: number;
  readonly numBlocks: number;
  /** Tokens of prompt and output together. */
  readonly maxModelLen: number;
  readonly maxNumSeqs: number;
  readonly maxNumBatchedTokens: number;
  readonly enableChunkedPrefill: boolean;
  /** Prefill tokens of one sequence per step at most; 0 is no limit. */
  readonly longPrefillTokenThreshold: number;
  readonly policy: SchedulingPolicy;
  /** Sequences that may wait when maxNumSeqs others are there. */
  readonly maxNumQueuedRequests: number;
}

/** One step, and what scheduling it did to the sequences. */
export interface SchedulerPlan {
  step: StepMessage;
  /** Sequences that lost their blocks and wait again. */
  preempted: number[];
}

/** A new token of a sequence, and whether it was the last. */
export interface SequenceEvent {
  seqId: number;
  tokenId: number;
  /** One position, when asked for. */
  logprobs: LogprobRows | null;
  finish: SequenceFinish | null;
}

export interface SchedulerStats {
  running: number;
  waiting: number;
  usedBlocks: number;
  numBlocks: number;
  /** Preemptions since the start. */
  numPreemptions: number;
}

/**
 * Decides what each step computes, as vLLM V1 does: no separate prefill and decode phases, running
 * sequences before waiting ones, preemption by recompute when blocks run out. Pure: no I/O, no clock.
 *
 * schedule() and update() alternate. A sequence that is aborted while its step is in flight gives its
 * blocks back at once; the workers may still write them, but no block is handed out before the step
 * has returned, because only schedule() allocates and it refuses to run until update() was called.
 */
export class Scheduler {
  readonly #config: SchedulerConfig;
  readonly #order: SequenceOrder;
  readonly #pool: BlockPool;
  readonly #waiting: WaitingQueue;
  readonly #sequences = new Map<number, Sequence>();
  #running: Sequence[] = [];
  /** Ended since the last step; the workers forget them with the next one. */
  #finished: number[] = [];
  #inFlight: StepInFlight | null = null;
  #numSteps = 0;
  #numArrivals = 0;
  #numPreemptions = 0;

  /**
   * @throws UcmError UCM_ERR_CONFIG when, without chunked prefill, a sequence within maxModelLen
   * could be too long for any step.
   */
  constructor(config: SchedulerConfig) {
    const { enableChunkedPrefill, maxNumBatchedTokens, maxModelLen } = config;
    if (!enableChunkedPrefill && maxNumBatchedTokens < maxModelLen) {
      throw new UcmError(
        "UCM_ERR_CONFIG",
        `max_num_batched_tokens (${maxNumBatchedTokens}) is smaller than max_model_len (${maxModelLen}). ` +
          "Without chunked prefill a longer prompt could never run. Please increase " +
          "max_num_batched_tokens, decrease max_model_len, or enable chunked prefill.",
      );
    }
    this.#config = config;
    this.#order = sequenceOrders[config.policy];
    this.#pool = new BlockPool(config.numBlocks);
    this.#waiting = new WaitingQueue(this.#order);
  }

  /**
   * Queues the sequences of one request, all or none.
   * @throws UcmError UCM_ERR_QUEUE_FULL, or UCM_ERR_CONTEXT_LENGTH for a sequence that could never
   * run to its end.
   */
  add(inputs: readonly SequenceInput[]): void {
    const { maxNumSeqs, maxNumQueuedRequests } = this.#config;
    if (this.#sequences.size >= maxNumSeqs + maxNumQueuedRequests) {
      throw new UcmError(
        "UCM_ERR_QUEUE_FULL",
        `The server is busy: ${this.#running.length} sequences run and ${this.#waiting.size} wait ` +
          `(max_num_seqs=${maxNumSeqs}, max_num_queued_reqs=${maxNumQueuedRequests}). Please retry later.`,
      );
    }
    for (const input of inputs) this.#assertFits(input);
    for (const input of inputs) {
      const sequence = new Sequence(input, this.#numArrivals++);
      this.#sequences.set(sequence.seqId, sequence);
      this.#waiting.add(sequence);
    }
  }

  /** Whether schedule() has something to do. */
  hasWork(): boolean {
    return this.#sequences.size > 0;
  }

  /** Plans the next step; update() must be given its result before the next call. */
  schedule(): SchedulerPlan {
    if (this.#inFlight !== null) {
      throw internal(`Step ${this.#inFlight.stepId} is still in flight: its blocks are in use.`);
    }
    const batch = new StepBatch(this.#config.maxNumBatchedTokens);
    this.#scheduleRunning(batch);
    if (batch.preempted.length === 0) this.#scheduleWaiting(batch);
    if (batch.sequences.length === 0) {
      throw internal(
        `Nothing can be scheduled: ${this.#running.length} sequences run, ${this.#waiting.size} wait, ` +
          `${this.#pool.numFree} of ${this.#pool.numBlocks} blocks are free.`,
      );
    }
    const step = batch.toMessage(++this.#numSteps, this.#finished);
    batch.commit();
    this.#finished = [];
    this.#inFlight = { stepId: step.stepId, sequences: batch.sequences };
    return { step, preempted: batch.preempted };
  }

  /**
   * Takes the result of the step in flight: appends the tokens, ends sequences (the failed ones too), frees their blocks.
   * Tokens of sequences aborted meanwhile are dropped.
   * @throws UcmError UCM_ERR_WORKER when the result does not answer the step.
   */
  update(result: StepResultMessage): SequenceEvent[] {
    if (this.#inFlight === null) throw internal(`Step ${result.stepId} is not in flight.`);
    const samples = matchSamples(this.#inFlight, result);
    this.#inFlight = null;
    for (const { seqId } of result.failed) this.abort(seqId);
    const events: SequenceEvent[] = [];
    for (const [sequence, { seqId, tokenId, logprobs }] of samples) {
      sequence.outputTokenIds.push(tokenId);
      const finish = checkStop(sequence, this.#config.maxModelLen);
      if (finish !== null) this.#end(sequence);
      events.push({ seqId, tokenId, logprobs, finish });
    }
    return events;
  }

  /** Ends a sequence at any moment and frees its blocks; false when it has ended already. */
  abort(seqId: number): boolean {
    const sequence = this.#sequences.get(seqId);
    if (sequence === undefined) return false;
    this.#end(sequence);
    return true;
  }

  stats(): SchedulerStats {
    return {
      running: this.#running.length,
      waiting: this.#waiting.size,
      usedBlocks: this.#pool.numUsed,
      numBlocks: this.#pool.numBlocks,
      numPreemptions: this.#numPreemptions,
    };
  }

  #scheduleRunning(batch: StepBatch): void {
    for (const sequence of [...this.#running]) {
      if (batch.budget === 0) break;
      if (sequence.status !== "running") continue; // preempted for one before it
      const numTokens = this.#chunkLength(sequence, batch.budget);
      let newBlockIds = this.#allocate(sequence, numTokens);
      while (newBlockIds === null && sequence.status === "running") {
        this.#preempt(this.#worstRunning(), batch);
        if (sequence.status === "running") newBlockIds = this.#allocate(sequence, numTokens);
      }
      // A sequence that had to preempt itself leaves its blocks to those after it. vLLM ends the step
      // here, which under the priority policy can leave it empty; under fcfs there is none after it.
      if (newBlockIds === null) continue;
      batch.add(sequence, { numTokens, newBlockIds, resetBlockTable: false });
    }
  }

  #scheduleWaiting(batch: StepBatch): void {
    const { maxNumSeqs, enableChunkedPrefill } = this.#config;
    while (batch.budget > 0 && this.#running.length < maxNumSeqs) {
      const sequence = this.#waiting.peek();
      if (sequence === undefined) break;
      if (!enableChunkedPrefill && sequence.numTokens > batch.budget) break;
      // All that is known of it must fit, not only this chunk: a sequence admitted by halves would be
      // preempted before its first token, and its work with it (vLLM: scheduler_reserve_full_isl).
      if (this.#blocksFor(sequence.numTokens) > this.#pool.numFree) break;
      const numTokens = this.#chunkLength(sequence, batch.budget);
      const newBlockIds = this.#allocate(sequence, numTokens);
      if (newBlockIds === null) break;
      this.#waiting.remove(sequence);
      sequence.status = "running";
      this.#running.push(sequence);
      batch.add(sequence, { numTokens, newBlockIds, resetBlockTable: true });
    }
  }

  /** Tokens of a sequence to compute in this step, at least 1. */
  #chunkLength(sequence: Sequence, budget: number): number {
    const { longPrefillTokenThreshold, enableChunkedPrefill } = this.#config;
    const limit =
      enableChunkedPrefill && longPrefillTokenThreshold > 0 ? longPrefillTokenThreshold : budget;
    return Math.min(sequence.numTokens - sequence.numComputedTokens, limit, budget);
  }

  /** Extends the block table for `numTokens` more tokens; null (and no change) when blocks lack. */
  #allocate(sequence: Sequence, numTokens: number): number[] | null {
    const needed = this.#blocksFor(sequence.numComputedTokens + numTokens);
    const blockIds = this.#pool.allocate(needed - sequence.blockTable.length);
    if (blockIds !== null) sequence.blockTable.push(...blockIds);
    return blockIds;
  }

  #preempt(sequence: Sequence, batch: StepBatch): void {
    this.#release(sequence);
    sequence.numComputedTokens = 0;
    sequence.status = "waiting";
    this.#waiting.add(sequence);
    batch.preempt(sequence);
    this.#numPreemptions += 1;
  }

  #worstRunning(): Sequence {
    return this.#running.reduce((worst, other) => (this.#order(worst, other) < 0 ? other : worst));
  }

  #end(sequence: Sequence): void {
    if (sequence.status === "waiting") this.#waiting.remove(sequence);
    else this.#release(sequence);
    sequence.status = "finished";
    this.#sequences.delete(sequence.seqId);
    if (sequence.knownToWorker) this.#finished.push(sequence.seqId);
  }

  /** Takes a running sequence out of the batch with all its blocks. */
  #release(sequence: Sequence): void {
    this.#running = this.#running.filter((other) => other !== sequence);
    this.#pool.free(sequence.blockTable);
    sequence.blockTable.length = 0;
  }

  #blocksFor(numTokens: number): number {
    return Math.ceil(numTokens / this.#config.blockSize);
  }

  #assertFits({ promptTokenIds, sampling, seqId }: SequenceInput): void {
    const { numBlocks, blockSize, maxModelLen } = this.#config;
    if (promptTokenIds.length === 0) throw internal(`Sequence ${seqId} has no prompt token.`);
    if (this.#sequences.has(seqId)) throw internal(`Sequence id ${seqId} is in use.`);
    // The last token is sampled, never computed: it needs no place in the cache.
    const longest = Math.min(maxModelLen, numBlocks * blockSize + 1);
    const total = promptTokenIds.length + sampling.maxTokens;
    if (total <= longest) return;
    throw new UcmError(
      "UCM_ERR_CONTEXT_LENGTH",
      `The request asks for ${total} tokens (${promptTokenIds.length} of prompt, ${sampling.maxTokens} of ` +
        `output), and the longest that fits is ${longest} tokens: the KV cache has ${numBlocks} blocks of ` +
        `${blockSize} tokens and max_model_len is ${maxModelLen}. Please shorten the prompt, lower ` +
        "max_tokens, or start the server with a larger KV cache.",
      { param: "max_tokens" },
    );
  }
}

function internal(message: string): UcmError {
  return new UcmError("UCM_ERR_INTERNAL", message);
}
