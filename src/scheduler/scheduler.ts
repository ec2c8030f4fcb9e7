import { UcmError } from "../errors/index.js";
import type { SparseNews, StepResultMessage } from "../messages/index.js";
import { Admissions } from "./admission.js";
import { BlockManager } from "./block-manager.js";
import { ExternalPrefixes } from "./external-prefix.js";
import type { KvConnector, LoadFailure, SchedulerStore } from "./kv-connector.js";
import { checkConfig, checkFits } from "./limits.js";
import { type FollowedLoad, followLoad, isGood } from "./load-follower.js";
import { type SequenceOrder, sequenceOrders } from "./policy.js";
import { Sequence, type SequenceInput } from "./sequence.js";
import { type SparseBudgets, SparseSequences } from "./sparse-sequences.js";
import { StepBatch, startedSequence } from "./step-batch.js";
import { matchSamples, type StepInFlight } from "./step-result.js";
import { checkStop } from "./stop-check.js";
import type {
  SchedulerConfig,
  SchedulerPlan,
  SchedulerStats,
  SequenceEvent,
  StartedSequence,
} from "./types.js";
import { WaitingQueue } from "./waiting-queue.js";

/**
 * Decides what each step computes, as vLLM V1 does: no separate prefill and decode phases, running
 * sequences before waiting ones, preemption by recompute when blocks run out. Pure: no I/O, no clock.
 *
 * schedule() and update() alternate. A sequence that is aborted while its step is in flight gives its
 * blocks back at once; the workers may still write them, but no block is handed out before the step
 * has returned, because only schedule() allocates and it refuses to run until update() was called.
 *
 * With a store, a waiting sequence is looked up there first and what is found is loaded; meanwhile it
 * is passed over, and those that are ready go in order. A step may then have no tokens: it only waits
 * for the store.
 */
export class Scheduler {
  readonly #config: SchedulerConfig;
  readonly #order: SequenceOrder;
  readonly #blocks: BlockManager;
  readonly #waiting: WaitingQueue;
  readonly #connector: KvConnector | null;
  readonly #external: ExternalPrefixes | null;
  readonly #admissions: Admissions;
  readonly #sparse: SparseSequences | null;
  readonly #sequences = new Map<number, Sequence>();
  #running: Sequence[] = [];
  /** Ended since the last step; the workers forget them with the next one. */
  #finished: number[] = [];
  #inFlight: StepInFlight | null = null;
  /** Those whose first step was a good one behind a load. */
  #lateStarts: StartedSequence[] = [];
  #numSteps = 0;
  #numArrivals = 0;
  #numPreemptions = 0;

  /** @throws UcmError UCM_ERR_CONFIG as checkConfig() does. */
  constructor(
    config: SchedulerConfig,
    store: SchedulerStore | null = null,
    budgets: SparseBudgets | null = null,
  ) {
    checkConfig(config);
    this.#config = config;
    this.#order = sequenceOrders[config.policy];
    const sharesArena = store?.sharesArena ?? true;
    this.#blocks = new BlockManager(config, { sharesBlocks: sharesArena });
    this.#waiting = new WaitingQueue(this.#order);
    this.#connector = store?.connector ?? null;
    this.#external =
      this.#connector === null
        ? null
        : new ExternalPrefixes({
            connector: this.#connector,
            blocks: this.#blocks,
            blockSize: config.blockSize,
            numBlocks: config.numBlocks,
            sharesArena,
          });
    this.#admissions = new Admissions(config, {
      blocks: this.#blocks,
      waiting: this.#waiting,
      external: this.#external,
    });
    const { blockSize } = config;
    this.#sparse =
      budgets === null ? null : new SparseSequences({ budgets, blocks: this.#blocks, blockSize });
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
    for (const input of inputs) {
      if (this.#sequences.has(input.seqId)) {
        throw internal(`Sequence id ${input.seqId} is in use.`);
      }
      checkFits(input, this.#config);
    }
    for (const input of inputs) {
      const sequence = new Sequence(input, this.#numArrivals++);
      this.#sequences.set(sequence.seqId, sequence);
      this.#waiting.add(sequence);
    }
  }

  /** Whether a sequence has not ended. */
  has(seqId: number): boolean {
    return this.#sequences.has(seqId);
  }

  /** Whether schedule() has something to do. */
  hasWork(): boolean {
    const hasLeftovers = this.#external?.hasLeftovers || this.#sparse?.owesStep;
    return this.#sequences.size > 0 || (hasLeftovers ?? false);
  }

  /** Plans the next step; update() must be given its result before the next call. */
  schedule(): SchedulerPlan {
    if (this.#inFlight !== null) {
      throw internal(`Step ${this.#inFlight.stepId} is still in flight: its blocks are in use.`);
    }
    this.#sparse?.advance(this.#running);
    const batch = new StepBatch(this.#config.maxNumBatchedTokens);
    this.#scheduleRunning(batch);
    if (batch.preempted.length === 0 || batch.sequences.length === 0) this.#scheduleWaiting(batch);
    if (batch.sequences.length === 0) this.#followLoad(batch);
    const hasStoreWork = this.#connector?.isBusy || this.#connector?.owesStep;
    if (batch.sequences.length === 0 && !hasStoreWork && !this.#sparse?.owesStep) {
      throw internal(
        `Nothing can be scheduled: ${this.#running.length} sequences run, ${this.#waiting.size} wait, ` +
          `${this.#blocks.numFree} of ${this.#config.numBlocks} blocks are free.`,
      );
    }
    this.#external?.pinFor(this.#waiting.inOrder());
    for (const [sequence, hashes] of batch.filled) {
      this.#dump(sequence, hashes, { isFilled: false });
    }
    const store = this.#connector?.takeWork() ?? null;
    const sparse = this.#sparse?.takeWork() ?? null;
    const step = batch.toMessage(++this.#numSteps, this.#finished, { store, sparse });
    const { preempted, started, sequences, numTokens, followed } = batch;
    batch.commit();
    this.#finished = [];
    this.#inFlight = { stepId: step.stepId, sequences, numTokens, followed };
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
    const { sequences, numTokens, followed } = this.#inFlight;
    const samples = matchSamples(this.#inFlight, result);
    this.#inFlight = null;
    this.#connector?.receive(result.store ?? null, { numTokens, durationMs: result.durationMs });
    if (result.store != null) this.#external?.receive(result.store);
    const isVain = followed !== null && !this.#settleFollowed(followed);
    if (isVain) samples.delete(followed.sequence);
    for (const { seqId } of result.failed) {
      if (!isVain || seqId !== followed.sequence.seqId) this.#fail(seqId);
    }
    if (result.sparse != null) this.#receiveSparse(result.sparse);
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

  /** Sequences that lost a block were not computed; they are computed again, all of them. */
  #receiveSparse(news: SparseNews): void {
    this.#sparse?.receive(news);
    for (const seqId of news.lost) {
      const sequence = this.#sequences.get(seqId);
      if (sequence?.status !== "running") continue;
      this.#sparse?.lose(sequence);
      this.#backToWaiting(sequence);
    }
  }

  /** Ends a sequence at any moment and frees its blocks; false when it has ended already. */
  abort(seqId: number): boolean {
    const sequence = this.#sequences.get(seqId);
    if (sequence === undefined) return false;
    this.#end(sequence);
    return true;
  }

  /**
   * The loads that failed in steps since the last call; sequences that fail with them have ended.
   */
  takeLoadFailures(): LoadFailure[] {
    const failures = this.#external?.takeFailures() ?? [];
    for (const { seqId, isFatal } of failures) if (isFatal) this.abort(seqId);
    return failures;
  }

  /** Empties the prefix cache of the arena; what the store has stays. */
  resetPrefixCache(): void {
    this.#blocks.forgetPrefixes();
  }

  /** Sequences that turned out to have started in the last step; the others are in its plan. */
  takeLateStarts(): StartedSequence[] {
    const started = this.#lateStarts;
    this.#lateStarts = [];
    return started;
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
      externalPrefixCache: this.#connector === null ? null : this.#blocks.externalStats.summary,
      sparse: this.#sparse?.stats() ?? null,
    };
  }

  #scheduleRunning(batch: StepBatch): void {
    for (const sequence of [...this.#running]) {
      if (batch.budget === 0) break;
      if (sequence.status !== "running") continue; // preempted for one before it
      const numTokens = this.#chunkLength(sequence, batch.budget);
      let newBlockIds = this.#blocks.extend(sequence, numTokens);
      while (newBlockIds === null && sequence.status === "running") {
        this.#takeBlocksOf(this.#worstHolder(), batch);
        if (sequence.status === "running") newBlockIds = this.#blocks.extend(sequence, numTokens);
      }
      // A sequence that had to preempt itself leaves its blocks to those after it. vLLM ends the step
      // here, which under the priority policy can leave it empty; under fcfs there is none after it.
      if (newBlockIds === null) continue;
      const filled = this.#blocks.filledBy(sequence, numTokens);
      batch.add(sequence, { numTokens, newBlockIds, resetBlockTable: false, filled });
    }
  }

  /**
   * In order, until one that is ready finds no room; from then on only those that hold their blocks
   * already.
   */
  #scheduleWaiting(batch: StepBatch): void {
    const { maxNumSeqs, enableChunkedPrefill } = this.#config;
    let isBlocked = false;
    for (const sequence of this.#waiting.inOrder()) {
      if (batch.budget === 0 || this.#running.length >= maxNumSeqs) break;
      if (sequence.status === "loading") continue;
      if (!sequence.holdsBlocks) {
        if (isBlocked) continue;
        const outcome = this.#admissions.admit(sequence, batch, this.#running.length);
        if (outcome === "blocked") isBlocked = true;
        if (outcome !== "admitted") continue;
      } else if (!enableChunkedPrefill && sequence.numRemaining > batch.budget) {
        break;
      }
      this.#start(sequence, batch);
    }
  }

  /** With nothing else to do, a step computes what follows a load that is under way. */
  #followLoad(batch: StepBatch): void {
    const load = this.#external?.nextToFollow() ?? null;
    const followed = load === null ? null : followLoad(load, this.#config);
    if (followed !== null) batch.follow(followed);
  }

  /** Whether what was computed behind a load counts; if not, the workers forget the sequence. */
  #settleFollowed(followed: FollowedLoad): boolean {
    const { sequence, numTokens } = followed;
    if (!isGood(followed)) {
      if (sequence.status === "finished") return false;
      sequence.knownToWorker = false;
      this.#finished.push(sequence.seqId);
      return false;
    }
    this.#enterBatch(sequence);
    this.#lateStarts.push(startedSequence(sequence));
    const filled = this.#blocks.filledBy(sequence, numTokens);
    this.#dump(sequence, filled, { isFilled: true });
    sequence.numComputedTokens += numTokens;
    this.#blocks.index(sequence);
    return true;
  }

  #enterBatch(sequence: Sequence): void {
    this.#waiting.remove(sequence);
    this.#external?.unpinFor(sequence);
    sequence.status = "running";
    this.#running.push(sequence);
    if (sequence.numCachedTokens === null) this.#blocks.recordFirst(sequence);
  }

  #start(sequence: Sequence, batch: StepBatch): void {
    this.#enterBatch(sequence);
    const numTokens = this.#chunkLength(sequence, batch.budget);
    this.#blocks.reserve(sequence, numTokens);
    const filled = this.#blocks.filledBy(sequence, numTokens);
    const newBlockIds = [...sequence.blockTable];
    batch.add(sequence, { numTokens, newBlockIds, resetBlockTable: true, filled });
  }

  /** Stores blocks from the first that is not computed on. */
  #dump(sequence: Sequence, hashes: readonly string[], { isFilled }: { isFilled: boolean }): void {
    const first = Math.floor(sequence.numComputedTokens / this.#config.blockSize);
    const blockIds = sequence.blockTable.slice(first, first + hashes.length);
    this.#connector?.dump({ seqId: sequence.seqId, keys: hashes, blockIds, isFilled });
  }

  /** Tokens of a sequence to compute in this step, at least 1. */
  #chunkLength(sequence: Sequence, budget: number): number {
    const { longPrefillTokenThreshold, enableChunkedPrefill } = this.#config;
    const limit =
      enableChunkedPrefill && longPrefillTokenThreshold > 0 ? longPrefillTokenThreshold : budget;
    return Math.min(sequence.numRemaining, limit, budget);
  }

  /** Preempts a running sequence, or takes back what was loaded for one that still waits. */
  #takeBlocksOf(sequence: Sequence, batch: StepBatch): void {
    if (sequence.status === "running") {
      this.#backToWaiting(sequence);
      batch.preempt(sequence);
      this.#numPreemptions += 1;
    } else {
      this.#blocks.release(sequence);
      sequence.numComputedTokens = 0;
    }
  }

  /** Takes all blocks of a running sequence, which is computed again when its turn comes. */
  #backToWaiting(sequence: Sequence): void {
    this.#release(sequence);
    sequence.status = "waiting";
    sequence.numComputedTokens = 0;
    // What it has computed since may have been stored since.
    const hasGrown = sequence.numTokens > sequence.numTokensAsked;
    if (hasGrown) sequence.external = { kind: "unknown" };
    this.#waiting.add(sequence);
  }

  /** The last in order of those whose blocks can be taken: not of those that load into them. */
  #worstHolder(): Sequence {
    const waiting = this.#waiting.inOrder().filter((other) => other.status === "waiting");
    const holders = [...this.#running, ...waiting.filter(({ holdsBlocks }) => holdsBlocks)];
    return holders.reduce((worst, other) => (this.#order(worst, other) < 0 ? other : worst));
  }

  #fail(seqId: number): void {
    const sequence = this.#sequences.get(seqId);
    if (sequence === undefined) return;
    this.#blocks.distrust(sequence);
    this.#connector?.forget(sequence.blockHashes?.hashes ?? []);
    this.#end(sequence);
  }

  #end(sequence: Sequence): void {
    this.#sparse?.end(sequence);
    if (sequence.status === "running") this.#release(sequence);
    else this.#waiting.remove(sequence);
    this.#external?.unpinFor(sequence);
    // The store may still write to blocks that are being loaded; they are given back when it is done.
    if (sequence.status === "waiting") this.#blocks.release(sequence);
    sequence.status = "finished";
    this.#sequences.delete(sequence.seqId);
    if (sequence.knownToWorker) this.#finished.push(sequence.seqId);
  }

  /** Takes a running sequence out of the batch with all its blocks. */
  #release(sequence: Sequence): void {
    this.#running = this.#running.filter((other) => other !== sequence);
    this.#sparse?.leave(sequence, "outside");
    this.#blocks.release(sequence);
  }
}

function internal(message: string): UcmError {
  return new UcmError("UCM_ERR_INTERNAL", message);
}
