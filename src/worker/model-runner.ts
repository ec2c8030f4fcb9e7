import { toUcmError, UcmError } from "../errors/index.js";
import type {
  FailedSequence,
  PromptLogprobs,
  SampledToken,
  StepMessage,
  StepResultMessage,
  TokenMask,
} from "../messages/index.js";
import { qkvWidth } from "../model/index.js";
import { type Batch, type BatchEntry, layOutBatch } from "./batch.js";
import type { LoadedModel } from "./load-model.js";
import type { Sampler, SamplerState } from "./sampler.js";
import { createSequenceTable } from "./sequence-table.js";

/** Runs steps on a loaded model, one at a time. */
export interface ModelRunner {
  /** `masks` of the sampling, which may come while the step computes. */
  step(message: StepMessage, masks?: Promise<TokenMask[]> | null): Promise<StepResultMessage>;
}

/** Rows that go through the head at once: bounds the logits buffer at 152k vocabularies. */
const HEAD_ROWS = 32;

export function createModelRunner(
  model: LoadedModel,
  sampler: Sampler,
  blockSize: number,
): ModelRunner {
  const { config } = model;
  const table = createSequenceTable(blockSize, (sequence) => sampler.createState(sequence));
  let hiddenAll = new Float32Array(0);
  const headRows = new Float32Array(HEAD_ROWS * config.hiddenSize);
  const logits = new Float32Array(HEAD_ROWS * config.vocabSize);

  async function forward(batch: Batch<SamplerState>): Promise<Float32Array> {
    const length = batch.rows * config.hiddenSize;
    if (hiddenAll.length < length) hiddenAll = new Float32Array(length);
    const hidden = hiddenAll.subarray(0, length);
    model.embed(batch.tokenIds, hidden);
    model.arena.beginStep(batch.spec);
    await model.dense.forward(hidden, batch.rows, attendWith(model));
    return hidden;
  }

  /** Head on the given rows of `hidden`, at most HEAD_ROWS at a time; `visit` sees each row's logits. */
  async function scoreRows(
    hidden: Float32Array,
    rows: readonly number[],
    visit: (index: number, rowLogits: Float32Array) => void,
  ): Promise<void> {
    const { hiddenSize, vocabSize } = config;
    for (let begin = 0; begin < rows.length; begin += HEAD_ROWS) {
      const part = rows.slice(begin, begin + HEAD_ROWS);
      for (const [i, row] of part.entries()) {
        headRows.set(hidden.subarray(row * hiddenSize, (row + 1) * hiddenSize), i * hiddenSize);
      }
      const out = logits.subarray(0, part.length * vocabSize);
      await model.dense.head(headRows.subarray(0, part.length * hiddenSize), part.length, out);
      for (let i = 0; i < part.length; i++) {
        visit(begin + i, out.subarray(i * vocabSize, (i + 1) * vocabSize));
      }
    }
  }

  async function scorePrompt(entry: BatchEntry<SamplerState>, hidden: Float32Array) {
    const { sequence, begin, end, firstRow } = entry;
    const k = sequence.sampling.promptLogprobs;
    const first = Math.max(begin + 1, sequence.promptScored + 1);
    const last = Math.min(end, sequence.promptLength - 1);
    if (k === null || first > last) return null;
    const start = firstRow + first - 1 - begin;
    const rows = Array.from({ length: last - first + 1 }, (_, i) => start + i);
    const collected = sampler.promptLogprobs(rows.length, k);
    await scoreRows(hidden, rows, (i, row) => collected.add(row, sequence.tokenIds[first + i]!));
    sequence.promptScored = last;
    return { seqId: sequence.seqId, firstPosition: first, rows: collected.rows() };
  }

  async function sampleDue(batch: Batch<SamplerState>, hidden: Float32Array, masks: TokenMask[]) {
    const maskOf = masksById(masks);
    const due = batch.entries.filter(({ sequence, end }) => end === sequence.length);
    const sampled: SampledToken[] = [];
    const failed: FailedSequence[] = [];
    const lastRows = due.map(({ firstRow, begin, end }) => firstRow + end - begin - 1);
    await scoreRows(hidden, lastRows, (i, row) => {
      const { sequence } = due[i]!;
      try {
        const mask = maskOf(sequence.seqId);
        const { tokenId, logprobs } = sampler.sample(row, sequence.state, mask);
        table.append(sequence, tokenId);
        sampled.push({ seqId: sequence.seqId, tokenId, logprobs });
      } catch (error) {
        failed.push({ seqId: sequence.seqId, error: toUcmError(error).toJSON() });
      }
    });
    return { sampled, failed };
  }

  return {
    async step(message, masks = null) {
      const started = performance.now();
      table.forget(message.finished);
      for (const sequence of message.newSequences) table.add(sequence);
      const batch = layOutBatch(message.scheduled, (step) => table.schedule(step));
      const promptLogprobs: PromptLogprobs[] = [];
      let outcome: Pick<StepResultMessage, "sampled" | "failed"> = { sampled: [], failed: [] };
      if (batch.rows > 0) {
        const hidden = await forward(batch);
        for (const entry of batch.entries) {
          const scored = await scorePrompt(entry, hidden);
          if (scored !== null) promptLogprobs.push(scored);
        }
        outcome = await sampleDue(batch, hidden, (await masks) ?? []);
      }
      const durationMs = performance.now() - started;
      return { type: "stepResult", stepId: message.stepId, ...outcome, promptLogprobs, durationMs };
    },
  };
}

/** Finds a sequence's mask, null where it has none; throws what the mask says is wrong. */
function masksById(masks: readonly TokenMask[]): (seqId: number) => Int32Array | null {
  const byId = new Map(masks.map((mask) => [mask.seqId, mask]));
  return (seqId) => {
    const found = byId.get(seqId);
    if (found === undefined) return null;
    if ("mask" in found) return found.mask;
    throw UcmError.fromJSON(found.error);
  };
}

/** The native attention of `model` as the dense part calls it. */
function attendWith({ arena, config, headNorms }: LoadedModel) {
  const stride = qkvWidth(config);
  const queryWidth = config.numQueryHeads * config.headDim;
  const kvWidth = config.numKvHeads * config.headDim;
  return (layer: number, qkv: Float32Array, attended: Float32Array) => {
    const norms = headNorms[layer]!;
    arena.forward(
      {
        layer,
        q: qkv,
        qStride: stride,
        k: qkv.subarray(queryWidth),
        kStride: stride,
        v: qkv.subarray(queryWidth + kvWidth),
        vStride: stride,
        qNorm: norms.q,
        kNorm: norms.k,
        normEps: config.rmsNormEps,
      },
      attended,
    );
  };
}
