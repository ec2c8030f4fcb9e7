import { UcmError } from "../errors/index.js";
import type { KvDtype, SparseConfig } from "../messages/index.js";
import type { ModelConfig } from "../model/model-config.js";
import { rankingVectors, representationVectors, sparseBudget } from "../sparse/index.js";

const dtypeBytes: Record<KvDtype, number> = { float32: 4, bfloat16: 2, float16: 2 };

/**
 * Bytes that one KV block takes in the arena of a worker: keys and values of all layers, and what
 * sparse attention keeps of each block.
 */
export function bytesPerBlock(
  model: Pick<ModelConfig, "numLayers" | "numKvHeads" | "headDim">,
  blockSize: number,
  kvDtype: KvDtype,
  sparse: SparseConfig | null = null,
): number {
  const vectors = 2 * blockSize + (sparse === null ? 0 : representationVectors(sparse, blockSize));
  return model.numLayers * model.numKvHeads * vectors * model.headDim * dtypeBytes[kvDtype];
}

/** The most that sparse attention holds outside the arena of a worker, in bytes. */
export interface BesideBytes {
  /** For each block that sparse sequences have in the arena. */
  perBlock: number;
  /** For each sequence. */
  perSequence: number;
}

/**
 * What a worker holds of candidates outside its arena, whether they are chosen or not: the vectors that
 * they are ranked by, and the keys and values of dense layers. Most for sequences of full length.
 */
export function besideBytes(
  model: Pick<ModelConfig, "numLayers" | "numKvHeads" | "headDim">,
  { blockSize, kvDtype, maxModelLen }: { blockSize: number; kvDtype: KvDtype; maxModelLen: number },
  sparse: SparseConfig | null,
): BesideBytes {
  const budget = sparse && sparseBudget(sparse, maxModelLen, blockSize);
  if (sparse === null || budget === null) return { perBlock: 0, perSequence: 0 };
  const { denseLayers } = sparse;
  const ranked = (model.numLayers - denseLayers) * rankingVectors(sparse, blockSize) * 4;
  const whole = denseLayers * 2 * blockSize * dtypeBytes[kvDtype];
  const perSequence = budget.candidates * model.numKvHeads * model.headDim * (ranked + whole);
  const kept = Math.ceil(maxModelLen / blockSize) - budget.candidates + budget.topK;
  return { perBlock: Math.ceil(perSequence / kept), perSequence };
}

/** Rows that the dense part computes at once, each with its intermediate values in fp32. */
export function estimateActivationBytes(
  model: Pick<ModelConfig, "hiddenSize" | "intermediateSize" | "vocabSize">,
  batch: { maxNumBatchedTokens: number; maxNumSeqs: number },
): number {
  const perRow = 8 * model.hiddenSize + 4 * model.intermediateSize;
  const logitRows = Math.min(batch.maxNumSeqs, batch.maxNumBatchedTokens);
  return 4 * (batch.maxNumBatchedTokens * perRow + 2 * logitRows * model.vocabSize);
}

export interface KvDemand {
  blockSize: number;
  bytesPerBlock: number;
  /** Comes out of what memory leaves, beside the cache. */
  beside: BesideBytes;
  maxModelLen: number;
  maxNumSeqs: number;
  /** True when maxModelLen may shrink to what fits. */
  shrinkToFit: boolean;
  /** Set by --num-gpu-blocks-override. */
  numBlocks: number | null;
  /** Set by --kv-cache-memory-bytes. */
  kvBytes: number | null;
  /** What memory leaves for the cache after weights and activations; may be negative. */
  availableBytes: number;
}

export interface KvSize {
  numBlocks: number;
  kvBytes: number;
  maxModelLen: number;
}

/**
 * The number of KV blocks: what was asked for, else what memory leaves, but no more than all
 * sequences at full length can use. UCM_ERR_MEMORY, in vLLM's words, when not even one request of
 * the context length fits.
 */
export function sizeKvCache(demand: KvDemand): KvSize {
  const { blockSize, bytesPerBlock: blockBytes } = demand;
  const perSequence = Math.ceil(demand.maxModelLen / blockSize);
  const useful = perSequence * demand.maxNumSeqs;
  const affordable = Math.max(0, Math.floor(countAffordable(demand)));
  const numBlocks = demand.numBlocks ?? Math.min(affordable, useful);
  if (numBlocks < 1) throw noMemory(demand);
  let { maxModelLen } = demand;
  if (numBlocks < perSequence) {
    if (!demand.shrinkToFit) throw tooLong(demand, numBlocks, perSequence);
    maxModelLen = numBlocks * blockSize;
  }
  return { numBlocks, kvBytes: numBlocks * blockBytes, maxModelLen };
}

function countAffordable({ kvBytes, availableBytes, maxNumSeqs, ...demand }: KvDemand): number {
  const { bytesPerBlock: blockBytes, beside } = demand;
  if (kvBytes !== null) return kvBytes / blockBytes;
  // Both bounds hold: what is held beside the cache is at most either.
  return Math.max(
    availableBytes / (blockBytes + beside.perBlock),
    (availableBytes - maxNumSeqs * beside.perSequence) / blockBytes,
  );
}

function noMemory({ kvBytes, availableBytes, bytesPerBlock: blockBytes }: KvDemand): UcmError {
  const message =
    kvBytes === null
      ? `No available memory for the cache blocks (${toGib(Math.max(0, availableBytes))} GiB are left after weights and activations). Try increasing \`gpu_memory_utilization\` when initializing the engine, or a smaller \`max_num_batched_tokens\` or \`max_num_seqs\`, which activations grow with.`
      : `No available memory for the cache blocks: \`kv_cache_memory_bytes\` is ${kvBytes}, and one block takes ${blockBytes} bytes.`;
  return new UcmError("UCM_ERR_MEMORY", message);
}

function tooLong(demand: KvDemand, numBlocks: number, perSequence: number): UcmError {
  const { blockSize, bytesPerBlock: blockBytes, maxModelLen } = demand;
  return new UcmError(
    "UCM_ERR_MEMORY",
    `To serve at least one request with the models's max seq len (${maxModelLen}), (${toGib(perSequence * blockBytes)} GiB KV cache is needed, which is larger than the available KV cache memory (${toGib(numBlocks * blockBytes)} GiB). Based on the available memory, the estimated maximum model length is ${numBlocks * blockSize}. Try increasing \`gpu_memory_utilization\` or decreasing \`max_model_len\` when initializing the engine.`,
  );
}

/** GiB with two digits, more when that would read as zero. */
export function toGib(bytes: number): string {
  const gib = bytes / 2 ** 30;
  return gib > 0 && gib < 0.01 ? gib.toPrecision(2) : gib.toFixed(2);
}
