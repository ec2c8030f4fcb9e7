import {
  defaultSamplingParams,
  type Quantization,
  type SampledToken,
  type WorkerConfig,
  type WorkerSampling,
} from "../../src/messages/index.js";
import { loadNative } from "../../src/native/index.js";
import { type LoadedModel, loadModel } from "../../src/worker/load-model.js";
import { createModelRunner, type ModelRunner } from "../../src/worker/model-runner.js";
import { createSampler, type Sampler } from "../../src/worker/sampler.js";

/** A worker's model and step loop inside the test process. */
export interface TestRunner {
  config: WorkerConfig;
  model: LoadedModel;
  runner: ModelRunner;
  /** Raw logits of every sampled position since the last call, in the order they were sampled. */
  takeLogits(): Float32Array[];
  dispose(): Promise<void>;
}

export const greedy: WorkerSampling = { ...defaultSamplingParams, temperature: 0, maxTokens: 64 };

export async function loadRunner(
  modelPath: string,
  overrides: Partial<WorkerConfig> = {},
): Promise<TestRunner> {
  const config: WorkerConfig = {
    modelPath,
    loadFormat: "auto",
    hfOverrides: {},
    dtype: "auto",
    quantization: null as Quantization,
    kvDtype: "float32",
    blockSize: 16,
    numBlocks: 256,
    maxModelLen: 2048,
    maxNumBatchedTokens: 2048,
    maxNumSeqs: 64,
    threads: 2,
    rank: 0,
    worldSize: 1,
    cores: [],
    rankTimeoutMs: 60_000,
    rankSpinMicros: 0,
    seed: 0,
    store: null,
    sparse: null,
    profile: false,
    ...overrides,
  };
  const native = loadNative();
  const model = await loadModel(config, native, null, () => undefined);
  const sampler = createSampler(native, { vocabSize: model.config.vocabSize, seed: config.seed });
  let logits: Float32Array[] = [];
  const recording: Sampler = {
    ...sampler,
    sample(row, state) {
      logits.push(row.slice());
      return sampler.sample(row, state);
    },
  };
  return {
    config,
    model,
    runner: createModelRunner(model, recording, config.blockSize),
    takeLogits() {
      const taken = logits;
      logits = [];
      return taken;
    },
    dispose: () => model.dispose(),
  };
}

/** One sequence driven by hand: its tokens, its blocks, and how its prompt is cut. */
export interface DrivenSequence {
  seqId: number;
  prompt: readonly number[];
  blockIds: readonly number[];
  /** Tokens per prefill step; the whole prompt when absent. */
  chunk?: number;
  sampling?: Partial<WorkerSampling>;
}

/**
 * Runs sequences side by side until each has `count` tokens: every step carries one prefill chunk or
 * one decode token of every unfinished sequence. Returns what was sampled, by sequence id.
 */
export async function generateTogether(
  { runner }: { runner: Pick<ModelRunner, "step"> },
  sequences: readonly DrivenSequence[],
  count: number,
): Promise<Map<number, SampledToken[]>> {
  const sampled = new Map<number, SampledToken[]>(sequences.map(({ seqId }) => [seqId, []]));
  const computed = new Map<number, number>();
  for (let stepId = 0; ; stepId++) {
    const live = sequences.filter(({ seqId }) => sampled.get(seqId)!.length < count);
    if (live.length === 0) break;
    const scheduled = live.map(({ seqId, prompt, blockIds, chunk }) => {
      const done = computed.get(seqId) ?? 0;
      const known = prompt.length + sampled.get(seqId)!.length;
      const numTokens = Math.min(known - done, chunk ?? known);
      computed.set(seqId, done + numTokens);
      return {
        seqId,
        numComputedTokens: done,
        numTokens,
        newBlockIds: Int32Array.from(done === 0 ? blockIds : []),
        resetBlockTable: done === 0,
      };
    });
    const result = await runner.step({
      type: "step",
      stepId,
      newSequences:
        stepId > 0
          ? []
          : sequences.map(({ seqId, prompt, sampling }) => ({
              seqId,
              promptTokenIds: Int32Array.from(prompt),
              sampling: { ...greedy, ...sampling },
            })),
      scheduled,
      finished: new Int32Array(0),
    });
    for (const token of result.sampled) sampled.get(token.seqId)!.push(token);
  }
  await runner.step({
    type: "step",
    stepId: -1,
    newSequences: [],
    scheduled: [],
    finished: Int32Array.from(sequences, ({ seqId }) => seqId),
  });
  return sampled;
}

/** Consecutive block ids. */
export function blocks(first: number, count: number): number[] {
  return Array.from({ length: count }, (_, i) => first + i);
}
