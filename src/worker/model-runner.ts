import { toUcmError, UcmError } from "../errors/index.js";
import type {
  FailedSequence,
  PromptLogprobs,
  SampledToken,
  StepMessage,
  StepResultMessage,
  TokenMask,
} from "../messages/index.js";
import type { Communicator, KvArena } from "../native/index.js";
import { type Batch, type BatchEntry, layOutBatch } from "./batch.js";
import type { LoadedModel } from "./load-model.js";
import { createRowScorer } from "./row-scorer.js";
import type { Sampler, SamplerState } from "./sampler.js";
import { createSequenceTable } from "./sequence-table.js";
import type { SparseRunner } from "./sparse-runner.js";
import type { BeforeLayer } from "./store-runner.js";

type AttendFunction = (layer: number, qkv: Float32Array, attended: Float32Array) => void;

/** Runs steps on a loaded model, one at a time. */
export interface ModelRunner {
  /** Does what a step asks of sparse attention, before its store work and step(). */
  begin(message: StepMessage): void;
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

/** The part of a loaded model that steps run on. */
export type StepModel = Omit<LoadedModel, "arena" | "weightBytes" | "dispose"> & {
  arena: Pick<KvArena, "beginStep" | "forward">;
};

/** What a step is computed with beside the model. */
export interface StepPartners {
  /**
   * Joins the ranks: all compute the same rows, rank 0 samples and tells the others, whose results
   * name no tokens. Null for one rank that nobody watches.
   */
  comm?: Communicator | null;
  sparse?: Pick<SparseRunner, "begin" | "settle" | "describe" | "finishStep" | "takeNews"> | null;
}

const noneLost: ReadonlySet<number> = new Set();

/** Broadcast in the place of a token where none could be chosen. */
const NO_TOKEN = -1;

/** What ranks without logits say of a sequence that rank 0 failed; rank 0's reply has the reason. */
const failedElsewhere = new UcmError("UCM_ERR_INTERNAL", "Rank 0 could not choose a token.");

export function createModelRunner(
  model: StepModel,
  sampler: Sampler,
  blockSize: number,
  { comm = null, sparse = null }: StepPartners = {},
): ModelRunner {
  const { hasLogits } = model;
  const table = createSequenceTable(blockSize, (sequence) => sampler.createState(sequence));
  const forward = createForward(model, { comm, sparse });
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
    begin: (message) => sparse?.begin(message, table.get),
    async step(message, masks = null, beforeLayer = null) {
      const started = performance.now();
      table.forget(message.finished);
      for (const sequence of message.newSequences) table.add(sequence);
      const lost = sparse?.settle(message.scheduled, comm) ?? noneLost;
      const scheduled = message.scheduled.filter(({ seqId }) => !lost.has(seqId));
      const batch = layOutBatch(scheduled, table.schedule, blockSize);
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
      return {
        type: "stepResult",
        stepId: message.stepId,
        ...outcome,
        promptLogprobs,
        durationMs: performance.now() - started,
        sparse: sparse?.takeNews() ?? null,
      };
    },
  };
}

/** Runs all layers over a batch; the result, fp32 [rows, hiddenSize], is good until the next call. */
function createForward(model: StepModel, { comm, sparse }: StepPartners) {
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
    const members = sparse?.describe(batch.entries);
    model.arena.beginStep(members === undefined ? batch.spec : { ...batch.spec, sparse: members });
    const attend = timed(attendWith(model, comm ?? null));
    await model.dense.forward(hidden, batch.rows, (layer, qkv, attended) => {
      beforeLayer?.(layer);
      attend(layer, qkv, attended);
    });
    if (members !== undefined) sparse!.finishStep({ ...batch, micros: attend.micros() });
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

/** The same function, and the microseconds spent in it. */
function timed(attend: AttendFunction): AttendFunction & { micros(): number } {
  let ms = 0;
  const measured: AttendFunction = (layer, qkv, attended) => {
    const started = performance.now();
    attend(layer, qkv, attended);
    ms += performance.now() - started;
  };
  return Object.assign(measured, { micros: () => Math.round(ms * 1000) });
}

/** The native attention of `model` as the dense part calls it. */
function attendWith(
  { arena, local, headNorms }: StepModel,
  comm: Communicator | null,
): AttendFunction {
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
