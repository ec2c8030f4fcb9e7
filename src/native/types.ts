import type { DenseAddon } from "./dense-types.js";
import type { RepresentationSpec, SparseAddon, SparseAttention } from "./sparse-types.js";
import type { StoreTools } from "./store-tool-types.js";
import type { BlockFileReport, KvStore, StoreSpec } from "./store-types.js";

/** Storage formats of floating-point data outside the fp32 activations. */
export type FloatDtype = "float32" | "bfloat16" | "float16";

/** A file mapped read-only and shared; its pages are the page cache's. */
export interface FileMapping {
  readonly byteLength: number;
  /** Unmaps; later use throws. */
  dispose(): void;
}

/** Where a tensor's bytes are: little-endian, row-major, at any byte offset of a mapping. */
export interface MappedTensor {
  mapping: FileMapping;
  byteOffset: number;
  dtype: FloatDtype;
}

/** Rotary embedding of the "rotate half" kind: pair (i, i + rotaryDim / 2) turns by position * invFreq[i]. */
export interface RopeSpec {
  /** float64 [rotaryDim / 2], after any scaling. */
  invFreq: Float64Array;
  /** Factor on cos and sin (yarn's attention factor), 1 otherwise. */
  scale: number;
}

export interface ArenaSpec {
  numBlocks: number;
  numLayers: number;
  /** Tokens per block. */
  blockSize: number;
  numQueryHeads: number;
  numKvHeads: number;
  /** 8 to 256, a multiple of 8. */
  headDim: number;
  dtype: FloatDtype;
  /** Null for a model without rotary embedding. */
  rope: RopeSpec | null;
  /** What is kept of each full block for sparse attention; left out or null for nothing. */
  representation?: RepresentationSpec | null;
}

/** The sequences of one step, in row order. */
export interface BatchSpec {
  /** int32 [sequences + 1]: rows of sequence s are [queryStart[s], queryStart[s + 1]). */
  queryStart: Int32Array;
  /** int32 [sequences]: tokens of the sequence after this step; its rows are the last of them. */
  contextLens: Int32Array;
  /** int32 [sequences + 1]: block table of s is blockIds[blockStart[s] … blockStart[s + 1]). */
  blockStart: Int32Array;
  blockIds: Int32Array;
  /** Sequences under sparse attention; left out when there is none. */
  sparse?: SparseBatchSpec;
}

/** The sequences of a step that sparse attention has to do with. */
export interface SparseBatchSpec {
  attention: SparseAttention;
  /**
   * int32 [sequences]: id of a watched or entered sequence, else -1. An entered one has one row; its
   * block table and contextLens are those of what it keeps: first blocks, slots, then all the others.
   */
  seqIds: Int32Array;
  /** int32 [sequences]: true position of each sequence's first row, for its rotation. */
  positions: Int32Array;
}

/** One layer's projections for all rows of the batch; fp32, row r starts at r * stride. */
export interface LayerInput {
  layer: number;
  q: Float32Array;
  qStride: number;
  k: Float32Array;
  kStride: number;
  v: Float32Array;
  vStride: number;
  /** fp32 [headDim]: RMS norm of every query and key head before rotation (Qwen3), or null. */
  qNorm: Float32Array | null;
  kNorm: Float32Array | null;
  normEps: number;
}

/**
 * The paged KV cache of one worker and attention over it. C++ owns the memory; block ids index it.
 * Results of a row depend on its query and the keys and values at or before its position alone:
 * not on batch mates, chunk sizes, thread count or block placement, bit for bit.
 */
export interface KvArena {
  readonly kvBytes: number;
  readonly bytesPerBlock: number;
  /** Checks the batch against the arena and prepares rotation tables; call once per step. */
  beginStep(batch: BatchSpec): void;
  /**
   * Norms and rotates q and k, writes k and v into the blocks, attends. `out` is fp32
   * [rows, numQueryHeads * headDim], contiguous. Softmax scale is headDim ** -0.5.
   */
  forward(input: LayerInput, out: Float32Array): void;
  /** Copies one (block, layer) piece out: raw bytes in the arena's layout. For tests and stores. */
  readBlock(blockId: number, layer: number): Uint8Array;
  /** Copies one piece back in; `bytes` has at least as many as readBlock gives. */
  writeBlock(blockId: number, layer: number, bytes: Uint8Array): void;
  dispose(): void;
}

/** Controls of one draw; see SamplingParams. */
export interface DrawSpec {
  /** Greater than 0. */
  temperature: number;
  topK: number;
  topP: number;
  minP: number;
  /** Uniform in [0, 1): inverse CDF over the kept tokens in id order. */
  uniform: number;
}

export interface TopLogprobs {
  /** int32 [k], by falling log-probability, ties by rising id. */
  tokenIds: Int32Array;
  /** float32 [k]. */
  logprobs: Float32Array;
  /** Log-probability of the token asked for. */
  tokenLogprob: number;
  /** 1 + number of tokens with a strictly greater logit. */
  tokenRank: number;
}

export interface CommunicatorSpec {
  /**
   * An open file without a name, inherited from the parent, all zero; it stays the caller's. Byte
   * 64 r holds the signs of life of rank r: uint64 progress, uint64 idle, little-endian.
   */
  descriptor: number;
  rank: number;
  /** 1 to 64. */
  worldSize: number;
  /** Longest wait for the others in one operation. */
  timeoutMs: number;
  /** Time to spin for the others before sleeping; 0 where ranks share cores. */
  spinMicros: number;
}

/**
 * Collective operations of the ranks of one model: each calls the same ones in the same order, and a
 * call blocks until all have. Throws UCM_ERR_NATIVE when a rank has ended, is out of step or does not
 * come within the timeout; the communicator is of no more use then.
 */
export interface Communicator {
  /** In place: the sum over all ranks, added from rank 0 upwards, the same bits in every run. */
  allReduceSum(values: Float32Array): void;
  /**
   * Joins a matrix [rows, width]: rank r brings columns [r * share, (r + 1) * share) of it, share =
   * ceil(width / worldSize), as far as there are any. `out` is null where it is not wanted.
   */
  gatherColumns(part: Float32Array, rows: number, width: number, out: Float32Array | null): void;
  /** Copies rank 0's values to all. */
  broadcast(values: Int32Array): void;
  /** Signs of life for whoever watches the descriptor: of a step, and of waiting for one. */
  noteProgress(): void;
  noteIdle(): void;
  dispose(): void;
}

/** Everything that ucm.node exports. Sync calls; compute runs on the calling thread and the pool. */
export interface NativeAddon extends DenseAddon, SparseAddon, StoreTools {
  /** Best first: the instruction sets that this machine can run, of amx, avx512bf16, avx512, avx2, scalar. */
  availableIsas(): string[];
  /** The one in use; UCM_CPU_ISA forces one. */
  isa(): string;
  /** Size of the compute pool, calling thread included; default 1. */
  setThreads(threads: number): void;

  /**
   * Whether memory that this process frees stays with it for the next step (true) or goes back to
   * the system at once (false), as it should while weights are loaded.
   */
  keepFreedMemory(keep: boolean): void;

  /** The kernel kills this process when `parentPid` ends; at once when it is the parent no more. */
  endWithParent(parentPid: number): void;
  /** Keeps this thread, and all that it starts from now on, on these cores. */
  pinToCores(cores: Int32Array): void;
  createCommunicator(spec: CommunicatorSpec): Communicator;

  openMapping(path: string): FileMapping;
  createArena(spec: ArenaSpec): KvArena;
  /** Throws when a folder is missing or cannot be used, or a capacity cannot hold a block. */
  createStore(spec: StoreSpec): KvStore;
  /** Checks every byte of one block file; blocks until it is read. For tools. */
  verifyBlockFile(path: string): BlockFileReport;

  /** out[i, :] = table[ids[i], :] as fp32; table is [rows, width]. Embedding lookup. */
  gatherRows(
    table: MappedTensor,
    rows: number,
    width: number,
    ids: Int32Array,
    out: Float32Array,
  ): void;
  /** out[i] = tensor[i] as fp32, exactly. */
  convertToFloat32(tensor: MappedTensor, count: number, out: Float32Array): void;
  /** In place: each value to the nearest bfloat16 or float16 (ties to even) and back. */
  roundToDtype(values: Float32Array, dtype: FloatDtype): void;
  /**
   * Symmetric int4 in blocks of 32 along cols, in the layout of ONNX Runtime's MatMulNBits:
   * packed uint8 [rows, ceil(cols / 32), 16] (low nibble first, zero point 8), scales fp32
   * [rows, ceil(cols / 32)]. The scale of a block minimises its squared error over a few candidates.
   */
  quantizeInt4(
    weight: Float32Array,
    rows: number,
    cols: number,
    packed: Uint8Array,
    scales: Float32Array,
  ): void;
  /** Pseudo-random normal values of the given deviation, a pure function of (seed, index). */
  fillRandom(out: Float32Array, seed: number, deviation: number): void;

  /** Index of the first value that is infinite or NaN; -1 when there is none. */
  findNonFinite(logits: Float32Array): number;
  /** Index of the greatest value, the lowest of equals. */
  argmax(logits: Float32Array): number;
  /** Draws a token; logits fp32 [vocab], not changed. The likeliest token is always kept. */
  draw(logits: Float32Array, spec: DrawSpec): number;
  /** Log-softmax of raw logits at `tokenId` and at the k greatest (k = -1: all). */
  topLogprobs(logits: Float32Array, k: number, tokenId: number): TopLogprobs;
}
