import { UcmError } from "../errors/index.js";
import type { StepResultMessage } from "../messages/index.js";
import { BlockManager } from "./block-manager.js";
import { type SequenceOrder, sequenceOrders } from "./policy.js";
import { Sequence, type SequenceInput } from "./sequence.js";
import { StepBatch } from "./step-batch.js";
import { matchSamples, type StepInFlight } from "./step-result.js";
import { checkStop } from "./stop-check.js";
import type { SchedulerConfig, SchedulerPlan, SchedulerStats, SequenceEvent } from "./types.js";
import { WaitingQueue } from "./waiting-queue.js";

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
  readonly #blocks: BlockManager;
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
    this.#blocks = new BlockManager(config);
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
          `${this.#blocks.numFree} of ${this.#config.numBlocks} blocks are free.`,
      );
    }
    const step = batch.toMessage(++this.#numSteps, this.#finished);
    const { preempted, started } = batch;
    batch.commit();
    this.#finished = [];
    this.#inFlight = { stepId: step.stepId, sequences: batch.sequences };
    return { step, preempted, started };
  }

  /**
   * Takes the result of the step in flight: lets the full blocks be found, appends the tokens, ends
   * sequences (the failed ones too), frees their blocks. Tokens of sequences aborted meanwhile are
   * dropped.
   * @throws UcmError UCM_ERR_WORKER when the result does not answer the step.
   */
  update(result: StepResultMessage): SequenceEvent[] {
    if (this.#inFlight === null) throw internal(`Step ${result.stepId} is not in flight.`);
    const { sequences } = this.#inFlight;
    const samples = matchSamples(this.#inFlight, result);
    this.#inFlight = null;
    for (const { seqId } of result.failed) this.#fail(seqId);
    for (const sequence of sequences) {
      if (sequence.status === "running") this.#blocks.index(sequence);
    }
    const events: SequenceEvent[] = [];
    for (const [sequence, { seqId, tokenId, logprobs }] of samples) {
      sequence.append(tokenId);
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
    const { total, hitRate } = this.#blocks.stats;
    return {
      running: this.#running.length,
      waiting: this.#waiting.size,
      usedBlocks: this.#blocks.numUsed,
      numBlocks: this.#config.numBlocks,
      numPreemptions: this.#numPreemptions,
      prefixCacheQueries: total.queries,
      prefixCacheHits: total.hits,
      prefixCacheHitRate: hitRate,
    };
  }

  #scheduleRunning(batch: StepBatch): void {
    for (const sequence of [...this.#running]) {
      if (batch.budget === 0) break;
      if (sequence.status !== "running") continue; // preempted for one before it
      const numTokens = this.#chunkLength(sequence, batch.budget);
      let newBlockIds = this.#blocks.extend(sequence, numTokens);
      while (newBlockIds === null && sequence.status === "running") {
        this.#preempt(this.#worstRunning(), batch);
        if (sequence.status === "running") newBlockIds = this.#blocks.extend(sequence, numTokens);
      }
      // A sequence that had to preempt itself leaves its blocks to those after it. vLLM ends the step
      // here, which under the priority policy can leave it empty; under fcfs there is none after it.
      if (newBlockIds === null) continue;
      const filled = this.#blocks.filledBy(sequence, numTokens);
      batch.add(sequence, { numTokens, newBlockIds, resetBlockTable: false, filled });
    }
  }

  #scheduleWaiting(batch: StepBatch): void {
    const { blockSize, maxNumSeqs, enableChunkedPrefill } = this.#config;
    while (batch.budget > 0 && this.#running.length < maxNumSeqs) {
      const sequence = this.#waiting.peek();
      if (sequence === undefined) break;
      const prefix = this.#blocks.findPrefix(sequence);
      // A block that this step is about to fill is worth a step of waiting: requests with a common
      // prefix that arrive together, and the n sequences of one request, compute it once.
      if (prefix.missing !== null && batch.completes(prefix.missing)) break;
      const numUncached = sequence.numTokens - prefix.blockIds.length * blockSize;
      if (!enableChunkedPrefill && numUncached > batch.budget) break;
      if (!this.#blocks.admit(sequence, prefix)) break;
      this.#waiting.remove(sequence);
      sequence.status = "running";
      this.#running.push(sequence);
      const numTokens = this.#chunkLength(sequence, batch.budget);
      if (this.#blocks.extend(sequence, numTokens) === null) {
        throw internal(`Sequence ${sequence.seqId} was admitted without the blocks it needs.`);
      }
      const filled = this.#blocks.filledBy(sequence, numTokens);
      const newBlockIds = [...sequence.blockTable];
      batch.add(sequence, { numTokens, newBlockIds, resetBlockTable: true, filled });
    }
  }

  /** Tokens of a sequence to compute in this step, at least 1. */
  #chunkLength(sequence: Sequence, budget: number): number {
    const { longPrefillTokenThreshold, enableChunkedPrefill } = this.#config;
    const limit =
      enableChunkedPrefill && longPrefillTokenThreshold > 0 ? longPrefillTokenThreshold : budget;
    return Math.min(sequence.numTokens - sequence.numComputedTokens, limit, budget);
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

  #fail(seqId: number): void {
    const sequence = this.#sequences.get(seqId);
    if (sequence === undefined) return;
    this.#blocks.distrust(sequence);
    this.#end(sequence);
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
    this.#blocks.release(sequence);
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
