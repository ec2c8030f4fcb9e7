import assert from "node:assert/strict";
import { describe, expect, it } from "vitest";
import { BlockHasher, Connector } from "../../../src/kvcache/index.js";
import type { StepResultMessage, StoreConfig } from "../../../src/messages/index.js";
import {
  Scheduler,
  type SchedulerConfig,
  type SchedulerPlan,
  type SequenceInput,
} from "../../../src/scheduler/index.js";
import { testStoreConfig } from "../../helpers/engine-config.js";
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
import { SimulatedStore } from "./simulated-store.js";
import { SimulatedWorker } from "./simulated-worker.js";

const TRIALS = 400;
const SEQUENCES_PER_TRIAL = 30;

function randomStore(random: RandomInt): StoreConfig {
  const role = random(0, 7);
  return {
    ...testStoreConfig,
    canLoad: role !== 0,
    canDump: role !== 1,
    loadFailurePolicy: random(0, 3) === 0 ? "fail" : "recompute",
    loadDecision: random(0, 1) === 0 ? "always" : "auto",
  };
}

/** A scheduler, a worker and a store that is anything but helpful, with random arrivals and aborts. */
class Trial {
  readonly #config: SchedulerConfig;
  readonly #random: RandomInt;
  readonly #scheduler: Scheduler;
  readonly #worker: SimulatedWorker;
  readonly store: SimulatedStore;
  readonly #storeConfig: StoreConfig;
  readonly #hasher: BlockHasher;
  readonly #prompts: PromptMaker;
  readonly #salts = new Map<number, string | null>();
  readonly #inputs = new Map<number, SequenceInput>();
  readonly #live = new Set<number>();
  readonly #outputs = new Map<number, number[]>();
  readonly endings: { seqId: number; how: string }[] = [];
  readonly #sharesArena: boolean;
  readonly seen = { idle: 0, loadedTokens: 0, abandoned: 0, followed: 0, vain: 0 };
  readonly #isCalm: boolean;
  numSteps = 0;
  #nextSeqId = 0;

  constructor(seed: number, policy: "fcfs" | "priority") {
    this.#random = seededRandom(seed);
    this.#config = { ...randomConfig(this.#random, policy), maxNumQueuedRequests: 1000 };
    const { blockSize, maxModelLen } = this.#config;
    this.#isCalm = this.#random(0, 2) === 0;
    const loadFailurePolicy = this.#random(0, 3) === 0 ? "fail" : "recompute";
    this.#storeConfig = this.#isCalm
      ? { ...testStoreConfig, loadFailurePolicy }
      : randomStore(this.#random);
    this.#sharesArena = !this.#isCalm && this.#random(0, 2) > 0;
    const connector = new Connector(this.#storeConfig, { bytesPerBlock: 1000, blockSize });
    this.#scheduler = new Scheduler(this.#config, { connector, sharesArena: this.#sharesArena });
    this.#prompts = new PromptMaker(this.#random, maxModelLen);
    this.#hasher = new BlockHasher({ blockSize, seed: null });
    this.#worker = new SimulatedWorker({
      ...this.#config,
      vocabSize: VOCAB_SIZE,
      hasStore: true,
      saltOf: (seqId) => this.#salts.get(seqId)!,
    });
    this.store = new SimulatedStore(this.#random, this.#worker);
  }

  get numAccepted(): number {
    return this.#inputs.size;
  }

  get numPreemptions(): number {
    return this.#scheduler.stats().numPreemptions;
  }

  run(): void {
    while (this.#nextSeqId < SEQUENCES_PER_TRIAL || this.#scheduler.hasWork()) {
      this.#disturb();
      if (!this.#scheduler.hasWork()) continue;
      const plan = this.#scheduler.schedule();
      this.#checkPlan(plan);
      this.#worker.begin(plan.step);
      this.store.begin(plan.step.store ?? null);
      this.#checkBlocks(plan);
      this.#disturb();
      this.store.advance();
      const computed = this.#worker.finish((taskId) => this.store.hasLoaded(taskId));
      const result = this.#failSome(computed, plan);
      const store = this.store.finish(new Set(result.failed.map(({ seqId }) => seqId)));
      const events = this.#scheduler.update({ ...result, store, durationMs: 2 });
      this.#checkStarted(this.#scheduler.takeLateStarts());
      for (const { seqId } of result.failed) {
        if (this.#live.has(seqId) && !this.#scheduler.has(seqId)) this.#end(seqId, "failed");
      }
      this.#checkEvents(events);
      this.#checkFailures();
      this.numSteps += 1;
      assert.ok(this.numSteps < 20_000, "it comes to an end");
    }
    const { running, waiting, usedBlocks } = this.#scheduler.stats();
    assert.deepEqual({ running, waiting, usedBlocks }, { running: 0, waiting: 0, usedBlocks: 0 });
    assert.equal(this.#live.size, 0);
    assert.equal(this.store.numPins, 0, "nothing stays pinned");
  }

  #disturb(): void {
    // In calm trials most come alone, find much, and the step of their load has nothing else to do.
    const most = this.#isCalm ? 1 : 8;
    const arrivals = this.#random(0, this.#isCalm ? 15 : 3) === 0 ? this.#random(1, most) : 0;
    for (let i = 0; i < arrivals && this.#nextSeqId < SEQUENCES_PER_TRIAL; i++) this.#arrive();
    if (this.#live.size === 0 || this.#random(0, 14) > 0) return;
    const seqId = [...this.#live][this.#random(0, this.#live.size - 1)]!;
    const numLoading = this.store.loadingBlockIds.size;
    assert.equal(this.#scheduler.abort(seqId), true);
    assert.equal(this.#scheduler.abort(seqId), false);
    if (numLoading > 0) this.seen.abandoned += 1;
    this.#end(seqId, "abort");
  }

  #arrive(): void {
    const seqId = this.#nextSeqId++;
    const made = { prompts: this.#prompts, hasher: this.#hasher };
    const { input, salt } = randomSequence(this.#random, seqId, this.#config, made);
    this.#salts.set(seqId, salt);
    this.#scheduler.add([input]);
    this.#inputs.set(seqId, input);
    this.#live.add(seqId);
    this.#outputs.set(seqId, []);
  }

  /** Tokens that come to nothing; of a sequence behind a load in vain that is no matter. */
  #failSome(result: StepResultMessage, { step }: SchedulerPlan): StepResultMessage {
    const [{ awaitsLoad } = {}] = step.scheduled;
    const isVain = awaitsLoad !== undefined && !this.store.hasLoaded(awaitsLoad);
    if (awaitsLoad !== undefined) this.seen[isVain ? "vain" : "followed"] += 1;
    return failSome(this.#random, isVain ? 4 : 200, result);
  }

  #checkPlan({ step, started }: SchedulerPlan): void {
    const { maxNumBatchedTokens, maxNumSeqs } = this.#config;
    if (step.scheduled.length === 0) this.seen.idle += 1;
    const total = step.scheduled.reduce((sum, s) => sum + s.numTokens, 0);
    assert.ok(total <= maxNumBatchedTokens, "token budget");
    assert.ok(this.#scheduler.stats().running <= maxNumSeqs, "sequences in a batch");
    this.#checkStarted(started);
    const { canLoad, canDump } = this.#storeConfig;
    if (!canLoad) assert.deepEqual([step.store?.lookups ?? [], step.store?.loads ?? []], [[], []]);
    if (!canDump) assert.deepEqual(step.store?.dumps ?? [], []);
  }

  #checkStarted(started: SchedulerPlan["started"]): void {
    for (const { seqId, promptLength, numCachedTokens, loadedBlocks } of started) {
      assert.ok(numCachedTokens < promptLength, "the last token is computed");
      const numLoaded = (loadedBlocks?.memory ?? 0) + (loadedBlocks?.file ?? 0);
      assert.ok(numLoaded * this.#config.blockSize <= numCachedTokens);
      this.seen.loadedTokens += numLoaded * this.#config.blockSize;
      assert.ok(this.#live.has(seqId));
      if (!this.#sharesArena) assert.equal(numLoaded * this.#config.blockSize, numCachedTokens);
    }
  }

  /** Nobody computes on blocks that the store may write to, and no two loads share one. */
  #checkBlocks({ step }: SchedulerPlan): void {
    const loading = this.store.loadingBlockIds;
    for (const { seqId, awaitsLoad } of step.scheduled) {
      if (awaitsLoad !== undefined) continue;
      for (const blockId of this.#worker.blockTable(seqId)) {
        assert.ok(!loading.has(blockId), `block ${blockId} of ${seqId} is being loaded`);
      }
    }
    const ids = (step.store?.loads ?? []).flatMap(({ blockIds }) => [...blockIds]);
    assert.equal(new Set(ids).size, ids.length);
    for (const { blockIds, isFilled } of step.store?.dumps ?? []) {
      if (isFilled) continue; // copied before the loads begin
      for (const blockId of blockIds) assert.ok(!loading.has(blockId), "no dump of what is loaded");
    }
  }

  #checkEvents(events: ReturnType<Scheduler["update"]>): void {
    for (const { seqId, tokenId, finish } of events) {
      assert.ok(this.#live.has(seqId));
      this.#outputs.get(seqId)!.push(tokenId);
      if (finish === null) continue;
      const expected = expectedOutput(this.#inputs.get(seqId)!);
      assert.deepEqual({ tokenIds: this.#outputs.get(seqId), finish }, expected);
      this.#end(seqId, finish.reason);
      const { promptTokenIds } = this.#inputs.get(seqId)!;
      this.#prompts.remember([...promptTokenIds, ...expected.tokenIds]);
    }
  }

  #checkFailures(): void {
    for (const { seqId, numTokens, isFatal } of this.#scheduler.takeLoadFailures()) {
      assert.ok(numTokens > 0);
      assert.equal(isFatal, this.#storeConfig.loadFailurePolicy === "fail");
      if (isFatal) this.#end(seqId, "load failed");
    }
  }

  #end(seqId: number, how: string): void {
    assert.equal(this.#live.delete(seqId), true, `${seqId} ends once`);
    this.endings.push({ seqId, how });
  }
}

describe.each(["fcfs", "priority"] as const)("random requests with a store under %s", (policy) => {
  it(`${TRIALS * SEQUENCES_PER_TRIAL} requests: right tokens, one end each, no block lost or read too early`, () => {
    const seen = { loaded: 0, failed: 0, pinned: 0, preemptions: 0 };
    const trials = { idle: 0, loadedTokens: 0, abandoned: 0, followed: 0, vain: 0 };
    const reasons = new Set<string>();
    for (const trial of runTrials(TRIALS, (seed) => new Trial(seed, policy))) {
      expect(trial.endings.length).toBe(trial.numAccepted);
      for (const key of Object.keys(trials) as (keyof typeof trials)[]) {
        trials[key] += trial.seen[key];
      }
      seen.loaded += trial.store.seen.loaded;
      seen.failed += trial.store.seen.failed;
      seen.pinned += trial.store.seen.pinned;
      seen.preemptions += trial.numPreemptions;
      for (const { how } of trial.endings) reasons.add(how);
    }
    // The trials are worth something only if they go where it hurts.
    expect([...reasons].sort()).toEqual(["abort", "failed", "length", "load failed", "stop"]);
    expect(trials.idle).toBeGreaterThan(1000);
    expect(trials.loadedTokens).toBeGreaterThan(1000);
    expect(trials.abandoned).toBeGreaterThan(50);
    expect(trials.followed).toBeGreaterThan(100);
    expect(trials.vain).toBeGreaterThan(100);
    expect(seen.loaded).toBeGreaterThan(1000);
    expect(seen.failed).toBeGreaterThan(200);
    expect(seen.pinned).toBeGreaterThan(200);
    expect(seen.preemptions).toBeGreaterThan(500);
  });
});
