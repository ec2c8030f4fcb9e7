import type { KvStore } from "./store-types.js";
import type { KvArena } from "./types.js";

/**
 * How a full block is described for selection, per layer, KV head and sub-block of `tokens` tokens:
 * `mean` of the keys (UCM), `minmax` of every channel (Quest), `cuboid`: mean and mean absolute
 * deviation (ArkVale). Kept behind the keys and values of each (block, layer) piece of the arena, in
 * the arena's dtype, so that a store keeps it with the block: headDim elements per vector (mean 1, the
 * others 2), sub-block and KV head, without padding.
 */
export interface RepresentationSpec {
  kind: "mean" | "minmax" | "cuboid";
  /** At most the block size, and a divisor of it. */
  tokens: 16 | 32 | 128;
}

export interface SparseSpec {
  /**
   * What blocks are ranked by: the arena's representation, or for measurements `random`, and `oracle`:
   * the true attention mass, read from all keys and as slow as dense attention.
   */
  score: "representation" | "random" | "oracle";
  /**
   * What the first selection of a sequence that is scored by the representation goes by: the true mass,
   * while all of its blocks are still in the arena, or for measurements the score as well.
   */
  firstBy: "mass" | "score";
  /** How the query heads of a group make one score of a KV head. */
  groupReduce: "max" | "mean";
  /**
   * First layers at which entered sequences attend to all candidates, in copies outside the arena; 0 to
   * the arena's layers.
   */
  denseLayers: number;
  /** Decode steps between two selections, 1 or more. */
  stride: number;
  /** Share of a block's vote that the block after it has at least, 0 to 1: text is read on. */
  nextShare: number;
  /**
   * Mean cosine, over layers and heads, of a step's queries with those of the selection in use, below
   * which the next selection is made early; 0 never does.
   */
  driftCosine: number;
  /** One in so many steps has its recall measured, for one sequence and layer in turn; 0 never. */
  recallEvery: number;
  /** How long the start of a step waits for a selection that is late. */
  waitMs: number;
  /** Of the random score. */
  seed: number;
}

/** What is kept of a prompt; all in blocks of the sequence's own numbering, from 0. */
export interface SparseBudget {
  /** First blocks, always kept. */
  init: number;
  /** Blocks after the first ones among which are chosen, all of them full. */
  candidates: number;
  /** Kept of the candidates; 0 to candidates. */
  topK: number;
}

/** Counts since the start; times are wall time of the thread that spent them. */
export interface SparseStats {
  /** Selections that came into use, and those of them that drift made early. */
  selections: number;
  earlySelections: number;
  /** Of selections: scoring and choosing; reading what was chosen from the store. */
  selectMicros: number;
  loadMicros: number;
  /** (block, layer) pieces read from the store, and those that were there already. */
  loadedPieces: number;
  keptPieces: number;
  /** Steps that waited for a late selection, and how long. */
  lateSteps: number;
  waitMicros: number;
  /** Sequences that lost a block that they needed. */
  lostSequences: number;
  /** Copying chosen pieces into their slots, between steps. */
  switchMicros: number;
  /** Bytes of representations held outside the arena, now. */
  representationBytes: number;
  /** Bytes of keys and values of the dense layers held outside the arena, now. */
  denseLayerBytes: number;
  /** Sequences known now. */
  sequences: number;
}

/**
 * Attention of decoding sequences over a part of their prompt (ESA). A sequence is first watched: its
 * representations are copied out of the arena, its queries are kept, it attends all its blocks. Then it
 * enters: what the last queries rank highest is gathered in a few slots, each layer its own blocks,
 * and its other blocks may be reused. From then on a thread chooses anew every `stride` steps and
 * reads from the store while steps go on; the slots change between steps only.
 */
export interface SparseAttention {
  /**
   * Gets a sequence ready whose first `init + candidates` blocks are full and in blockIds (int32, in
   * order). `keys` is uint8 [candidates * 32], what the store knows the candidates by.
   */
  watch(seqId: number, budget: SparseBudget, blockIds: Int32Array, keys: Uint8Array): void;
  /**
   * Between steps, after one in which the watched sequence had one row: gathers the chosen candidates
   * in `slots`, int32 [topK], different block ids. Nobody else reads them. Some may be blocks of its
   * candidates, where what is chosen can stay in place; others (candidates that it shares with others
   * cannot be slots) are not in its table. From then on its table is its first blocks, the slots in
   * this order, and what came after the candidates; all of its candidates' blocks are as they were
   * until the call returns.
   */
  enter(seqId: number, slots: Int32Array): void;
  /**
   * At the start of a step, for the entered sequences that are in it: puts selections that are due into
   * the slots, waiting for late ones. Returns those that cannot go on, int32: their blocks are lost.
   */
  settle(seqIds: Int32Array): Int32Array;
  /** After a step: starts the selections of the next stride where they are due, and recall samples. */
  finishStep(): void;
  /** Forgets sequences; nothing of them is read or written once it returns. Unknown ids do nothing. */
  leave(seqIds: Int32Array): void;
  /** Shares of the true attention mass that the kept blocks covered, float32, since the last call. */
  takeRecalls(): Float32Array;
  /**
   * For tests and traces: candidates that a layer attends to, rising; int32 [topK], at a dense layer
   * [candidates].
   */
  selection(seqId: number, layer: number): Int32Array;
  stats(): SparseStats;
  /** Ends the thread; the arena and the store must live until then. */
  dispose(): void;
}

/** The part of the addon that makes one. */
export interface SparseAddon {
  createSparseAttention(arena: KvArena, store: KvStore, spec: SparseSpec): SparseAttention;
}
