import { toUcmError, UcmError } from "../errors/index.js";
import type {
  FailedSequence,
  PromptLogprobs,
  SampledToken,
  StepMessage,
  StepResultMessage,
  TokenMask,
} from "../messages/index.js";
import type { Communicator } from "../native/index.js";
import { type Batch, type BatchEntry, layOutBatch } from "./batch.js";
import type { LoadedModel } from "./load-model.js";
import { createRowScorer } from "./row-scorer.js";
import type { Sampler, SamplerState } from "./sampler.js";
import { createSequenceTable } from "./sequence-table.js";
import type { BeforeLayer } from "./store-runner.js";

/** Runs steps on a loaded model, one at a time. */
export interface ModelRunner {
  /**
   * `masks` of the sampling, which may come while the step computes; `beforeLayer` is called before
   * the attention of each layer.
   */
  step(
    message: StepMessage,
    masks?: Promise<TokenMask[]> | null,
    beforeLayer?: BeforeLayer | null,
  ): Promise<StepResultMessage>;
}

/** Broadcast in the place of a token where none could be chosen. */
const NO_TOKEN = -1;

/** What ranks without logits say of a sequence that rank 0 failed; rank 0's reply has the reason. */
const failedElsewhere = new UcmError("UCM_ERR_INTERNAL", "Rank 0 could not choose a token.");

/**
 * `comm` joins the ranks: all compute the same rows, rank 0 samples and tells the others, whose results
 * name no tokens. Null for one rank that nobody watches.
 */
export function createModelRunner(
  model: LoadedModel,
  sampler: Sampler,
  blockSize: number,
  comm: Communicator | null = null,
): ModelRunner {
  const { hasLogits } = model;
  const table = createSequenceTable(blockSize, (sequence) => sampler.createState(sequence));
  const forward = createForward(model, comm);
  const scoreRows = createRowScorer(model);

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
    if (!hasLogits) return null;
    return { seqId: sequence.seqId, firstPosition: first, rows: collected.rows() };
  }

  async function sampleDue(batch: Batch<SamplerState>, hidden: Float32Array, masks: TokenMask[]) {
    const maskOf = masksById(masks);
    const due = batch.entries.filter(({ sequence, end }) => end === sequence.length);
    const sampled: SampledToken[] = [];
    const failed: FailedSequence[] = [];
    const tokenIds = new Int32Array(due.length).fill(NO_TOKEN);
    const lastRows = due.map(({ firstRow, begin, end }) => firstRow + end - begin - 1);
    const fail = (i: number, error: unknown) =>
      failed.push({ seqId: due[i]!.sequence.seqId, error: toUcmError(error).toJSON() });
    await scoreRows(hidden, lastRows, (i, row) => {
      const { sequence } = due[i]!;
      try {
        const mask = maskOf(sequence.seqId);
        const { tokenId, logprobs } = sampler.sample(row, sequence.state, mask);
        tokenIds[i] = tokenId;
        sampled.push({ seqId: sequence.seqId, tokenId, logprobs });
      } catch (error) {
        fail(i, error);
      }
    });
    comm?.broadcast(tokenIds);
    for (const [i, tokenId] of tokenIds.entries()) {
      if (tokenId !== NO_TOKEN) table.append(due[i]!.sequence, tokenId);
      else if (!hasLogits) fail(i, failedElsewhere);
    }
    return { sampled, failed };
  }

  return {
    async step(message, masks = null, beforeLayer = null) {
      const started = performance.now();
      table.forget(message.finished);
      for (const sequence of message.newSequences) table.add(sequence);
      const batch = layOutBatch(message.scheduled, (step) => table.schedule(step));
      const promptLogprobs: PromptLogprobs[] = [];
      let outcome: Pick<StepResultMessage, "sampled" | "failed"> = { sampled: [], failed: [] };
      if (batch.rows > 0) {
        const hidden = await forward(batch, beforeLayer);
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

/** Runs all layers over a batch; the result, fp32 [rows, hiddenSize], is good until the next call. */
function createForward(model: LoadedModel, comm: Communicator | null) {
  const { hiddenSize } = model.config;
  let hiddenAll = new Float32Array(0);
  return async (
    batch: Batch<SamplerState>,
    beforeLayer: BeforeLayer | null,
  ): Promise<Float32Array> => {
    const length = batch.rows * hiddenSize;
    if (hiddenAll.length < length) hiddenAll = new Float32Array(length);
    const hidden = hiddenAll.subarray(0, length);
    model.embed(batch.tokenIds, hidden);
    model.arena.beginStep(batch.spec);
    const attend = attendWith(model, comm);
    await model.dense.forward(hidden, batch.rows, (layer, qkv, attended) => {
      beforeLayer?.(layer);
      attend(layer, qkv, attended);
    });
    return hidden;
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
function attendWith({ arena, local, headNorms }: LoadedModel, comm: Communicator | null) {
  const queryWidth = local.numQueryHeads * local.headDim;
  const kvWidth = local.numKvHeads * local.headDim;
  const stride = queryWidth + 2 * kvWidth;
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
        normEps: local.rmsNormEps,
      },
      attended,
    );
    comm?.noteProgress();
  };
}
