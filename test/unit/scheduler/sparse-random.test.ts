import assert from "node:assert/strict";
import { describe, expect, it } from "vitest";
import { BlockHasher, Connector } from "../../../src/kvcache/index.js";
import type { SparseConfig } from "../../../src/messages/index.js";
import {
  Scheduler,
  type SchedulerConfig,
  type SequenceInput,
} from "../../../src/scheduler/index.js";
import { sparseBudget } from "../../../src/sparse/index.js";
import { testSparseConfig, testStoreConfig } from "../../helpers/engine-config.js";
import { LayeredWorker } from "./layered-worker.js";
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

const TRIALS = 360;
const SEQUENCES_PER_TRIAL = 30;

function randomSparse(random: RandomInt): SparseConfig {
  const init = random(0, 2);
  const local = random(1, 3);
  const window = { init, local, minBlocks: init + local + random(0, 2), ratio: random(1, 9) / 10 };
  return { ...testSparseConfig, window };
}

/** A scheduler, a worker with sparse attention and a bad store, with random arrivals and aborts. */
class Trial {
  readonly #random: RandomInt;
  readonly #config: SchedulerConfig;
  readonly #scheduler: Scheduler;
  readonly #hasher: BlockHasher;
  readonly #prompts: PromptMaker;
  readonly #store: SimulatedStore;
  readonly worker: LayeredWorker;
  readonly #salts = new Map<number, string | null>();
  readonly #inputs = new Map<number, SequenceInput>();
  readonly #live = new Map<number, number[]>();
  readonly endings = new Map<number, string>();
  #nextSeqId = 0;

  constructor(seed: number, policy: "fcfs" | "priority") {
    this.#random = seededRandom(seed);
    const config = randomConfig(this.#random, policy);
    const blockSize = Math.ceil(config.blockSize / 2);
    const { maxModelLen } = config;
    const numBlocks = Math.max(config.numBlocks, Math.ceil(maxModelLen / blockSize));
    this.#config = { ...config, blockSize, numBlocks, maxNumQueuedRequests: 999 };
    const sparse = randomSparse(this.#random);
    const connector = new Connector(testStoreConfig, { bytesPerBlock: 1000, blockSize });
    this.#scheduler = new Scheduler(
      this.#config,
      { connector, sharesArena: this.#random(0, 3) > 0 },
      (tokens) => sparseBudget(sparse, tokens, blockSize),
    );
    this.#hasher = new BlockHasher({ blockSize, seed: null });
    this.#prompts = new PromptMaker(this.#random, maxModelLen);
    const saltOf = (seqId: number) => this.#salts.get(seqId)!;
    const shape = { ...this.#config, vocabSize: VOCAB_SIZE, saltOf };
    this.worker = new LayeredWorker(shape, this.#random);
    this.#store = new SimulatedStore(this.#random, this.worker);
  }

  get stats() {
    return this.#scheduler.stats();
  }

  run(): void {
    let numSteps = 0;
    while (this.#nextSeqId < SEQUENCES_PER_TRIAL || this.#scheduler.hasWork()) {
      this.#disturb();
      if (!this.#scheduler.hasWork()) continue;
      const { step } = this.#scheduler.schedule();
      this.worker.begin(step);
      this.#store.begin(step.store ?? null);
      this.#disturb();
      this.#store.advance();
      const isLoaded = (taskId: number) => this.#store.hasLoaded(taskId);
      const result = failSome(this.#random, 300, this.worker.finish(isLoaded));
      for (const { seqId } of result.failed) {
        if (this.#live.has(seqId)) this.#end(seqId, "failed");
      }
      const store = this.#store.finish(new Set(result.failed.map(({ seqId }) => seqId)));
      this.#check(this.#scheduler.update({ ...result, store }));
      this.#scheduler.takeLoadFailures();
      assert.ok(++numSteps < 20_000, "it comes to an end");
    }
    const { running, waiting, usedBlocks, sparse } = this.stats;
    assert.deepEqual({ running, waiting, usedBlocks }, { running: 0, waiting: 0, usedBlocks: 0 });
    assert.deepEqual([sparse!.running, sparse!.droppedBlocks], [0, 0]);
    assert.equal(this.#live.size, 0);
    assert.equal(this.endings.size, SEQUENCES_PER_TRIAL);
  }

  #disturb(): void {
    const arrivals = this.#random(0, 3) === 0 ? this.#random(1, 8) : 0;
    for (let i = 0; i < arrivals && this.#nextSeqId < SEQUENCES_PER_TRIAL; i++) this.#arrive();
    if (this.#random(0, 299) === 0) this.worker.loseAll();
    if (this.#live.size === 0 || this.#random(0, 19) > 0) return;
    const seqId = [...this.#live.keys()][this.#random(0, this.#live.size - 1)]!;
    assert.equal(this.#scheduler.abort(seqId), true);
    this.#end(seqId, "abort");
  }

  /** One sequence, or several of one prompt, as a request with n > 1 has them. */
  #arrive(): void {
    const made = { prompts: this.#prompts, hasher: this.#hasher };
    const { input, salt } = randomSequence(this.#random, 0, this.#config, made);
    const n = this.#random(0, 3) === 0 ? this.#random(2, 4) : 1;
    const inputs = Array.from({ length: n }, () => {
      const seqId = this.#nextSeqId++;
      const blockHashes = this.#hasher.chain(input.promptTokenIds, salt);
      this.#salts.set(seqId, salt);
      return { ...input, seqId, blockHashes };
    }).filter(({ seqId }) => seqId < SEQUENCES_PER_TRIAL);
    this.#nextSeqId = Math.min(this.#nextSeqId, SEQUENCES_PER_TRIAL);
    this.#scheduler.add(inputs);
    for (const added of inputs) {
      this.#inputs.set(added.seqId, added);
      this.#live.set(added.seqId, []);
    }
  }

  #check(events: ReturnType<Scheduler["update"]>): void {
    for (const { seqId, tokenId, finish } of events) {
      const tokenIds = this.#live.get(seqId)!;
      tokenIds.push(tokenId);
      if (finish === null) continue;
      const input = this.#inputs.get(seqId)!;
      assert.deepEqual({ tokenIds, finish }, expectedOutput(input));
      this.#prompts.remember([...input.promptTokenIds, ...tokenIds]);
      this.#end(seqId, finish.reason);
    }
  }

  #end(seqId: number, how: string): void {
    assert.ok(this.#live.delete(seqId) && !this.endings.has(seqId), `${seqId} ends once`);
    this.endings.set(seqId, how);
  }
}

describe.each(["fcfs", "priority"] as const)(
  "random requests under sparse attention, %s",
  (policy) => {
    it(`${TRIALS * SEQUENCES_PER_TRIAL} requests: right blocks in every layer, right tokens, one end each`, () => {
      const seen = { entered: 0, fresh: 0, reselected: 0, sparseSteps: 0, refused: 0, lost: 0 };
      const totals = { preemptions: 0, entered: 0, refused: 0, lost: 0 };
      for (const trial of runTrials(TRIALS, (seed) => new Trial(seed, policy))) {
        for (const key of Object.keys(seen) as (keyof typeof seen)[]) {
          seen[key] += trial.worker.seen[key];
        }
        const { numPreemptions, sparse } = trial.stats;
        totals.preemptions += numPreemptions;
        for (const key of ["entered", "refused", "lost"] as const) totals[key] += sparse![key];
      }
      // The trials are worth something only if they go where it hurts.
      expect(totals.entered).toBe(seen.entered);
      expect(seen.entered).toBeGreaterThan(1000);
      expect(seen.fresh).toBeGreaterThan(100);
      expect(seen.reselected).toBeGreaterThan(1000);
      expect(seen.sparseSteps).toBeGreaterThan(5000);
      expect(totals.refused).toBeGreaterThan(100);
      expect(totals.lost).toBeGreaterThan(100);
      expect(totals.preemptions).toBeGreaterThan(1000);
    });
  },
);
