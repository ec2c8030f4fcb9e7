import { createHash } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import type { SparseWork } from "../../src/messages/index.js";
import { loadNative, type SparseSpec } from "../../src/native/index.js";
import { createModelRunner, type ModelRunner } from "../../src/worker/model-runner.js";
import { type OpenedStore, openStore } from "../../src/worker/open-store.js";
import { createSampler } from "../../src/worker/sampler.js";
import { SparseRunner } from "../../src/worker/sparse-runner.js";
import { testSparseConfig, testStoreConfig } from "../helpers/engine-config.js";
import {
  blocks,
  generateTogether,
  greedy,
  loadRunner,
  type TestRunner,
} from "../helpers/runner.js";

export const BLOCK_SIZE = 16;
const ANSWER_TOKENS_MAX = 12;
const { init, local } = testSparseConfig.window;
/** A selection of the measurement scores reads every key, on a machine that may do other things. */
const WAIT_MS = 60_000;

/** What chooses blocks: how the arena describes them, and what is made of it. */
export interface Selector
  extends Omit<SparseSpec, "denseLayers" | "recallEvery" | "waitMs" | "seed"> {
  name: string;
  representation: "mean" | "minmax" | "cuboid";
  /** 0 where it is left out. */
  denseLayers?: number;
}

export interface SparseAnswer {
  /** Up to the end-of-text token. */
  tokenIds: number[];
  /** Share of the true attention mass that the kept blocks had, of each step's sampled layer. */
  recalls: number[];
}

interface Lane {
  runner: ModelRunner;
  sparse: SparseRunner;
}

/**
 * Answers prompts greedily, densely and with sparse attention: a prompt is computed once, and every
 * selector and ratio decodes from the same blocks of the arena.
 */
export class AnswerBench {
  readonly #test: TestRunner;
  readonly #store: OpenedStore;
  readonly #eos: readonly number[];
  readonly #lanes = new Map<Selector, Lane>();
  readonly #maxBlocks: number;
  #numSequences = 0;
  #prompt: readonly number[] = [];
  /** A store key per block of the prompt. */
  #keys: readonly string[] = [];

  private constructor(
    test: TestRunner,
    store: OpenedStore,
    eos: readonly number[],
    maxBlocks: number,
  ) {
    this.#test = test;
    this.#store = store;
    this.#eos = eos;
    this.#maxBlocks = maxBlocks;
  }

  /** For selectors of one representation. */
  static async open(
    modelPath: string,
    options: {
      selectors: readonly Selector[];
      maxTokens: number;
      eos: readonly number[];
      threads: number;
    },
  ): Promise<AnswerBench> {
    const { selectors, maxTokens, eos, threads } = options;
    const { representation } = selectors[0]!;
    const maxBlocks = Math.ceil((maxTokens + ANSWER_TOKENS_MAX) / BLOCK_SIZE);
    const store = { ...testStoreConfig, memoryBytes: 2 ** 30, threads: 1, timeoutMs: WAIT_MS };
    const test = await loadRunner(modelPath, {
      kvDtype: "bfloat16",
      numBlocks: 2 * maxBlocks,
      maxModelLen: maxTokens + ANSWER_TOKENS_MAX,
      threads,
      store,
      // For the arena, which has the representation; selectors bring their own of the rest.
      sparse: { ...testSparseConfig, score: representation },
    });
    const opened = await openStore(store, test.config, test.model, loadNative());
    const bench = new AnswerBench(test, opened, eos, maxBlocks);
    for (const selector of selectors) bench.#addLane(selector);
    return bench;
  }

  /** Computes a prompt, which the sparse answers are of from then on, and answers it densely. */
  async answerDensely(prompt: readonly number[]): Promise<number[]> {
    this.#prompt = prompt;
    this.#keys = keysOf(prompt);
    const seqId = this.#numSequences++;
    const sequence = { seqId, prompt, blockIds: blocks(0, this.#numBlocks()), chunk: 2048 };
    const sampled = await generateTogether(this.#test, [sequence], ANSWER_TOKENS_MAX);
    return this.#untilEnd(sampled.get(seqId)!.map(({ tokenId }) => tokenId));
  }

  /** Answers the prompt as a server does: a dense step that is watched, then sparse ones. */
  async answerSparsely(selector: Selector, ratio: number): Promise<SparseAnswer> {
    const { runner, sparse } = this.#lanes.get(selector)!;
    const { length } = this.#prompt;
    const seqId = this.#numSequences++;
    const numPrompt = Math.ceil(length / BLOCK_SIZE);
    const candidates = numPrompt - init - local;
    const topK = Math.floor(candidates * ratio);
    const keys = this.#keys.slice(init, init + candidates);
    const watch: SparseWork = { ...noWork(), watch: [{ seqId, init, topK, keys }] };
    const slots = Int32Array.from(blocks(this.#maxBlocks, topK));
    const enter: SparseWork = { ...noWork(), enter: [{ seqId, slots }] };
    const output: number[] = [];
    const recalls: number[] = [];
    let isReady = false;
    for (let step = 0; step < ANSWER_TOKENS_MAX; step++) {
      const isFirst = step === 0;
      if (step === 2 && !isReady) await untilReady(sparse, seqId);
      const message = {
        type: "step" as const,
        stepId: step,
        newSequences: isFirst
          ? [{ seqId, promptTokenIds: Int32Array.from(this.#prompt), sampling: greedy }]
          : [],
        scheduled: [
          {
            seqId,
            numComputedTokens: length - 1 + step,
            numTokens: 1,
            newBlockIds: Int32Array.from(isFirst ? blocks(0, this.#numBlocks()) : []),
            resetBlockTable: isFirst,
          },
        ],
        finished: new Int32Array(0),
        sparse: step === 1 ? watch : step === 2 ? enter : null,
      };
      runner.begin(message);
      const result = await runner.step(message);
      isReady ||= result.sparse?.ready.includes(seqId) ?? false;
      recalls.push(...(result.sparse?.recalls ?? []));
      const token = result.sampled[0];
      if (token === undefined) throw new Error(`no token: ${JSON.stringify(result)}`);
      output.push(token.tokenId);
      if (this.#eos.includes(token.tokenId)) break;
    }
    const end = { ...emptyStep, finished: Int32Array.of(seqId) };
    runner.begin(end);
    recalls.push(...((await runner.step(end)).sparse?.recalls ?? []));
    return { tokenIds: this.#untilEnd(output), recalls };
  }

  async dispose(): Promise<void> {
    for (const { sparse } of this.#lanes.values()) sparse.end({ isStepping: false });
    await this.#store.close();
    await this.#test.dispose();
  }

  #addLane(selector: Selector): void {
    const { name, representation, ...chosen } = selector;
    const spec = { denseLayers: 0, ...chosen, recallEvery: 1, waitMs: WAIT_MS, seed: 1 };
    const native = loadNative();
    const attention = native.createSparseAttention(
      this.#test.model.arena,
      this.#store.native!,
      spec,
    );
    const sparse = new SparseRunner(attention, {
      ...this.#store,
      settleDumps: () => Promise.resolve(),
    });
    const sampler = createSampler(native, {
      vocabSize: this.#test.model.config.vocabSize,
      seed: 0,
    });
    const runner = createModelRunner(this.#test.model, sampler, BLOCK_SIZE, { sparse });
    this.#lanes.set(selector, { runner, sparse });
  }

  #numBlocks(): number {
    return Math.ceil((this.#prompt.length + ANSWER_TOKENS_MAX) / BLOCK_SIZE);
  }

  #untilEnd(tokenIds: readonly number[]): number[] {
    const end = tokenIds.findIndex((tokenId) => this.#eos.includes(tokenId));
    return tokenIds.slice(0, end === -1 ? tokenIds.length : end);
  }
}

/** A key per block, each of all tokens up to the block's end. */
function keysOf(prompt: readonly number[]): string[] {
  const hash = createHash("sha256");
  return blocks(0, Math.ceil(prompt.length / BLOCK_SIZE)).map((block) => {
    const tokens = prompt.slice(block * BLOCK_SIZE, (block + 1) * BLOCK_SIZE);
    return hash.update(Int32Array.from(tokens)).copy().digest("hex");
  });
}

const emptyStep = {
  type: "step" as const,
  stepId: -1,
  newSequences: [],
  scheduled: [],
  finished: new Int32Array(0),
};

function noWork(): SparseWork {
  return { leave: new Int32Array(0), enter: [], watch: [] };
}

/** The candidates are in the store and pinned, which takes turns of the event loop. */
async function untilReady(sparse: SparseRunner, seqId: number): Promise<void> {
  for (;;) {
    const news = sparse.takeNews();
    if (news?.refused.includes(seqId)) throw new Error("the store did not take the prompt");
    if (news?.ready.includes(seqId)) return;
    await sleep(1);
  }
}
