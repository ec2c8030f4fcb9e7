import assert from "node:assert/strict";
import { describe, expect, it } from "vitest";
import type { UcmError } from "../../../src/errors/index.js";
import { BlockHasher } from "../../../src/kvcache/index.js";
import {
  Scheduler,
  type SchedulerConfig,
  type SchedulerPlan,
  type SchedulerStats,
  type SequenceInput,
} from "../../../src/scheduler/index.js";
import {
  expectedOutput,
  failSome,
  PromptMaker,
  type RandomInt,
  randomConfig,
  randomSequence,
  runTrials,
  seededRandom,
  VOCAB_SIZE,
} from "./random-workload.js";
import { SimulatedWorker } from "./simulated-worker.js";

const TRIALS = 400;
const SEQUENCES_PER_TRIAL = 40;

/** Drives a scheduler and a worker with random arrivals and aborts, and keeps its own books. */
class Trial {
  readonly #config: SchedulerConfig;
  readonly #random: RandomInt;
  readonly #scheduler: Scheduler;
  readonly #worker: SimulatedWorker;
  readonly #hasher: BlockHasher | null;
  readonly #prompts: PromptMaker;
  readonly #salts = new Map<number, string | null>();
  readonly #inputs = new Map<number, SequenceInput>();
  readonly #waiting = new Set<number>();
  readonly #running = new Set<number>();
  readonly #outputs = new Map<number, number[]>();
  /** How each sequence ended: one entry per end, so that two are seen. */
  readonly endings: { seqId: number; how: string }[] = [];
  readonly firstScheduled: number[] = [];
  numSteps = 0;
  numRefused = 0;
  numHits = 0;
  numShared = 0;
  #numQueries = 0;
  #nextSeqId = 0;

  constructor(seed: number, policy: "fcfs" | "priority") {
    this.#random = seededRandom(seed);
    this.#config = randomConfig(this.#random, policy);
    this.#scheduler = new Scheduler(this.#config);
    const { blockSize, maxModelLen } = this.#config;
    this.#prompts = new PromptMaker(this.#random, maxModelLen);
    this.#hasher = seed % 5 === 0 ? null : new BlockHasher({ blockSize, seed: null });
    this.#worker = new SimulatedWorker({
      ...this.#config,
      vocabSize: VOCAB_SIZE,
      saltOf: (seqId) => this.#salts.get(seqId)!,
    });
  }

  get numAccepted(): number {
    return this.#inputs.size;
  }

  get numPreemptions(): number {
    return this.#scheduler.stats().numPreemptions;
  }

  /** Steps that even the worst order needs: the best sequence moves on in every one. */
  get maxSteps(): number {
    const lengths = [...this.#inputs.values()].map(
      ({ promptTokenIds, sampling }) => promptTokenIds.length + sampling.maxTokens,
    );
    return lengths.reduce((sum, length) => sum + length, 0);
  }

  run(): void {
    while (this.#nextSeqId < SEQUENCES_PER_TRIAL || this.#scheduler.hasWork()) {
      this.#disturb();
      if (!this.#scheduler.hasWork()) continue;
      const plan = this.#scheduler.schedule();
      this.#checkPlan(plan);
      this.#worker.begin(plan.step);
      this.#checkBlocks(plan);
      this.#disturb();
      assert.throws(() => this.#scheduler.schedule(), /still in flight/);
      const result = failSome(this.#random, 200, this.#worker.finish());
      for (const { seqId } of result.failed) {
        if (this.#running.has(seqId)) this.#end(seqId, "failed");
      }
      this.#checkEvents(this.#scheduler.update(result));
      this.numSteps += 1;
      assert.ok(this.numSteps <= this.maxSteps, "every step moves on");
    }
    this.#checkStats({ running: 0, waiting: 0, usedBlocks: 0 });
    const { prefixCacheQueries, prefixCacheHits } = this.#scheduler.stats();
    assert.deepEqual([prefixCacheQueries, prefixCacheHits], [this.#numQueries, this.numHits]);
  }

  /** Arrivals and aborts, as they come between steps and during one. */
  #disturb(): void {
    const arrivals = this.#random(0, 3) === 0 ? this.#random(1, 10) : 0;
    for (let i = 0; i < arrivals && this.#nextSeqId < SEQUENCES_PER_TRIAL; i++) this.#arrive();
    const live = [...this.#waiting, ...this.#running];
    if (live.length === 0 || this.#random(0, 9) > 0) return;
    const seqId = live[this.#random(0, live.length - 1)]!;
    const before = this.#scheduler.stats().usedBlocks;
    const others = this.#heldBy([...this.#running].filter((other) => other !== seqId));
    const alone = this.#heldBy(this.#running.has(seqId) ? [seqId] : []).filter(
      (blockId) => !others.includes(blockId),
    ).length;
    assert.equal(this.#scheduler.abort(seqId), true);
    assert.equal(this.#scheduler.abort(seqId), false);
    assert.equal(this.#scheduler.stats().usedBlocks, before - alone);
    this.#end(seqId, "abort");
  }

  #arrive(): void {
    const seqId = this.#nextSeqId++;
    const made = { prompts: this.#prompts, hasher: this.#hasher };
    const { input, salt } = randomSequence(this.#random, seqId, this.#config, made);
    this.#salts.set(seqId, salt);
    const { maxNumSeqs, maxNumQueuedRequests } = this.#config;
    const isFull = this.#waiting.size + this.#running.size >= maxNumSeqs + maxNumQueuedRequests;
    try {
      this.#scheduler.add([input]);
    } catch (error) {
      assert.equal((error as UcmError).code, "UCM_ERR_QUEUE_FULL");
      assert.equal(isFull, true);
      this.numRefused += 1;
      return;
    }
    assert.equal(isFull, false);
    this.#inputs.set(input.seqId, input);
    this.#waiting.add(input.seqId);
    this.#outputs.set(input.seqId, []);
  }

  #checkPlan({ step, preempted, started }: SchedulerPlan): void {
    const { maxNumBatchedTokens, maxNumSeqs, enableChunkedPrefill } = this.#config;
    for (const seqId of preempted) {
      assert.equal(this.#running.delete(seqId), true);
      this.#waiting.add(seqId);
    }
    const admitted = step.scheduled.filter((s) => s.resetBlockTable).map((s) => s.seqId);
    if (preempted.length > 0) assert.deepEqual(admitted, []);
    for (const seqId of admitted) assert.equal(this.#waiting.delete(seqId), true);
    // The best wait the shortest: no one admitted is behind one that still waits, and no one
    // preempted is ahead of one that still runs.
    assert.equal(this.#isSorted([...admitted, ...this.#best(this.#waiting)]), true);
    const survivors = [...this.#running].sort(this.#compare);
    assert.equal(this.#isSorted([...survivors.slice(-1), ...this.#best(preempted)]), true);
    const scheduled = step.scheduled.map((s) => s.seqId);
    const continued = scheduled.slice(0, scheduled.length - admitted.length);
    for (const seqId of continued) assert.equal(this.#running.has(seqId), true);
    for (const seqId of admitted) this.#running.add(seqId);
    this.firstScheduled.push(...step.newSequences.map((s) => s.seqId));
    this.#checkStarted(step, started);

    const total = step.scheduled.reduce((sum, s) => sum + s.numTokens, 0);
    assert.ok(total <= maxNumBatchedTokens, "token budget");
    assert.ok(this.#running.size <= maxNumSeqs, "sequences in a batch");
    for (const { seqId, numTokens, numComputedTokens } of step.scheduled) {
      const known =
        this.#inputs.get(seqId)!.promptTokenIds.length + this.#outputs.get(seqId)!.length;
      const limit = this.#config.longPrefillTokenThreshold || maxNumBatchedTokens;
      if (enableChunkedPrefill) assert.ok(numTokens <= limit, "chunk length");
      else if (admitted.includes(seqId)) assert.equal(numComputedTokens + numTokens, known);
    }
  }

  /** What is new to the worker is told with the tokens that it need not compute. */
  #checkStarted(step: SchedulerPlan["step"], started: SchedulerPlan["started"]): void {
    const expected = step.newSequences.map(({ seqId, promptTokenIds }) => {
      const { numComputedTokens } = step.scheduled.find((s) => s.seqId === seqId)!;
      return { seqId, promptLength: promptTokenIds.length, numCachedTokens: numComputedTokens };
    });
    assert.deepEqual(started, expected);
    for (const { promptLength, numCachedTokens } of started) {
      assert.ok(numCachedTokens < promptLength, "the last token is computed");
      this.numHits += numCachedTokens;
    }
    for (const { sampling, promptTokenIds } of step.newSequences) {
      const looksUp = this.#hasher !== null && sampling.promptLogprobs === null;
      if (looksUp) this.#numQueries += promptTokenIds.length;
    }
  }

  /** Who writes a block has it alone, and the scheduler counts the blocks that are held. */
  #checkBlocks({ step }: SchedulerPlan): void {
    const { blockSize } = this.#config;
    const held = this.#heldBy(this.#running);
    const holders = new Map<number, number>();
    for (const blockId of held) holders.set(blockId, (holders.get(blockId) ?? 0) + 1);
    for (const { seqId, numComputedTokens } of step.scheduled) {
      const table = this.#worker.blockTable(seqId);
      for (const blockId of table.slice(Math.floor(numComputedTokens / blockSize))) {
        assert.equal(holders.get(blockId), 1, `block ${blockId} is written by ${seqId}`);
      }
    }
    this.numShared += held.length - holders.size;
    this.#checkStats({
      usedBlocks: holders.size,
      running: this.#running.size,
      waiting: this.#waiting.size,
    });
  }

  /** Blocks of running sequences, as often as they are held. */
  #heldBy(seqIds: Iterable<number>): number[] {
    return [...seqIds].flatMap((seqId) => this.#worker.blockTable(seqId));
  }

  #checkStats(expected: Pick<SchedulerStats, "running" | "waiting" | "usedBlocks">): void {
    const { running, waiting, usedBlocks } = this.#scheduler.stats();
    assert.deepEqual({ running, waiting, usedBlocks }, expected);
  }

  #checkEvents(events: ReturnType<Scheduler["update"]>): void {
    for (const { seqId, tokenId, finish } of events) {
      assert.equal(this.#running.has(seqId), true);
      this.#outputs.get(seqId)!.push(tokenId);
      if (finish === null) continue;
      const expected = expectedOutput(this.#inputs.get(seqId)!);
      assert.deepEqual({ tokenIds: this.#outputs.get(seqId), finish }, expected);
      this.#end(seqId, finish.reason);
      const { promptTokenIds } = this.#inputs.get(seqId)!;
      this.#prompts.remember([...promptTokenIds, ...expected.tokenIds]);
    }
  }

  #end(seqId: number, how: string): void {
    this.#waiting.delete(seqId);
    this.#running.delete(seqId);
    this.endings.push({ seqId, how });
  }

  readonly #compare = (a: number, b: number): number => {
    const byArrival = a - b;
    if (this.#config.policy === "fcfs") return byArrival;
    return this.#inputs.get(a)!.priority - this.#inputs.get(b)!.priority || byArrival;
  };

  #best(seqIds: Iterable<number>): number[] {
    return [...seqIds].sort(this.#compare).slice(0, 1);
  }

  #isSorted(seqIds: number[]): boolean {
    return seqIds.every((seqId, i) => i === 0 || this.#compare(seqIds[i - 1]!, seqId) < 0);
  }
}

describe.each(["fcfs", "priority"] as const)("random requests under %s", (policy) => {
  it(`${TRIALS * SEQUENCES_PER_TRIAL} requests: right tokens, one end each, no block lost, no wrong one shared`, () => {
    const seen = { endings: 0, refused: 0, preemptions: 0, hits: 0, shared: 0 };
    const reasons = new Set<string>();
    for (const trial of runTrials(TRIALS, (seed) => new Trial(seed, policy))) {
      const ended = trial.endings.map(({ seqId }) => seqId);
      expect(new Set(ended).size).toBe(ended.length);
      expect(ended.length).toBe(trial.numAccepted);
      expect(ended.length + trial.numRefused).toBe(SEQUENCES_PER_TRIAL);
      expect(new Set(trial.firstScheduled).size).toBe(trial.firstScheduled.length);
      if (policy === "fcfs") {
        expect(trial.firstScheduled).toEqual([...trial.firstScheduled].sort((a, b) => a - b));
      }
      seen.endings += ended.length;
      seen.refused += trial.numRefused;
      seen.preemptions += trial.numPreemptions;
      seen.hits += trial.numHits;
      seen.shared += trial.numShared;
      for (const { how } of trial.endings) reasons.add(how);
    }
    // The trials are worth something only if they go where it hurts.
    expect([...reasons].sort()).toEqual(["abort", "failed", "length", "stop"]);
    expect(seen.endings).toBeGreaterThan(5000);
    expect(seen.refused).toBeGreaterThan(100);
    expect(seen.preemptions).toBeGreaterThan(1000);
    expect(seen.hits).toBeGreaterThan(5000);
    expect(seen.shared).toBeGreaterThan(1000);
  });
});
