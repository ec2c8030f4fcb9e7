/** What of a prompt is always kept, and how much of the rest. */
export interface SparseWindow {
  /** First blocks. */
  init: number;
  /** Last blocks of the prompt, the partial one included. */
  local: number;
  /** Shorter prompts stay dense, in blocks. */
  minBlocks: number;
  /** Share of the blocks between, above 0 and at most 1. */
  ratio: number;
}

/** Sparse attention, with every default filled in; see the method in src/sparse. */
export interface SparseConfig {
  /** Key of the method in the table of src/sparse. */
  method: string;
  window: SparseWindow;
  /** What blocks are ranked by. */
  score: "mean" | "minmax" | "cuboid" | "random" | "oracle";
  /** Tokens that one representation stands for. */
  representationTokens: 16 | 32 | 128;
  groupReduce: "max" | "mean";
  /** First layers that attend to all blocks, kept outside the arena. */
  denseLayers: number;
  /** Decode steps between two selections. */
  stride: number;
  /** Share of a block's vote that the block after it has at least. */
  nextShare: number;
  /** Mean cosine of queries below which the next selection is made early; 0 never. */
  driftCosine: number;
  /** One in so many steps has its recall measured; 0 never. */
  recallEvery: number;
  /** How long a step waits for a selection that is late, before it goes on without the sequence. */
  waitMs: number;
}

/** What is kept of a prompt, in blocks of the prompt from its first. */
export interface SparseBudget {
  /** First blocks, always kept. */
  init: number;
  /** Blocks after these among which is chosen; all of them are full. */
  candidates: number;
  /** Kept of the candidates, fewer than they are. */
  topK: number;
}

/** A sequence whose prompt is in the arena, to be got ready to leave a part of it. */
export interface SparseWatch {
  seqId: number;
  init: number;
  topK: number;
  /** Hashes of its candidate blocks, those after the first `init`. */
  keys: readonly string[];
}

/** A watched sequence that keeps its chosen blocks in these slots from this step on. */
export interface SparseEnter {
  seqId: number;
  /** int32 [topK]: blocks that take the place of its candidates in the table, some of them among these. */
  slots: Int32Array;
}

/** What a step asks of sparse attention, in this order, before its store work and its computing. */
export interface SparseWork {
  /** Sequences that were preempted or go on dense; finished ones are not named. */
  leave: Int32Array;
  enter: SparseEnter[];
  watch: SparseWatch[];
}

/** What came of it since the last step. */
export interface SparseNews {
  /** Watched sequences whose candidates are all in the store and pinned there. */
  ready: number[];
  /** Watched sequences that cannot be sparse, because the store did not take all their blocks. */
  refused: number[];
  /** Entered sequences that were not computed in this step: a block that they need is lost. */
  lost: number[];
  /** Shares of the true attention mass that the kept blocks covered, float32. */
  recalls: Float32Array;
  /** Since the worker started. */
  counts: SparseCounts;
}

/** What sparse attention of a worker came to since its start; times are wall time. */
export interface SparseCounts {
  /** Selections that came into use, and those of them that a moved query made early. */
  selections: number;
  earlySelections: number;
  /** Scoring and choosing, on a thread of its own. */
  selectMicros: number;
  /** Reading chosen blocks from the store, on the same thread. */
  loadMicros: number;
  /** (block, layer) pieces read from the store, and those that were in place already. */
  loadedPieces: number;
  keptPieces: number;
  /** Steps that waited for a late selection, and how long. */
  lateSteps: number;
  waitMicros: number;
  /** Copying chosen pieces into their places, between steps. */
  switchMicros: number;
  /** Bytes of representations outside the arena, now. */
  representationBytes: number;
  /** Bytes of keys and values of the dense layers outside the arena, now. */
  denseLayerBytes: number;
  /** Attention of decode steps whose sequences were all on their way into sparse attention. */
  dense: AttentionCost;
  /** Attention of decode steps whose sequences had all entered it. */
  sparse: AttentionCost;
}

/** Attention over the cache, measured on steps that hold nothing else. */
export interface AttentionCost {
  steps: number;
  micros: number;
  /** Tokens of all sequences of these steps, attended or not. */
  contextTokens: number;
}
