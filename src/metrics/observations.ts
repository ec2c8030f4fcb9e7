/** How a sequence ended, in vLLM's words. */
export type FinishedReason = "stop" | "length" | "abort" | "error";

/** A sequence from its arrival to its end; times are milliseconds of one monotonic clock. */
export interface SequenceRecord {
  finishedReason: FinishedReason;
  promptTokens: number;
  generatedTokens: number;
  /** max_tokens of its request. */
  maxTokens: number;
  /** Prompt tokens that were found, not computed. */
  cachedTokens: number;
  arrivalMs: number;
  /** Null when it ended before that. */
  scheduledMs: number | null;
  firstTokenMs: number | null;
  lastTokenMs: number | null;
  endMs: number;
}

/** A request all of whose sequences have ended. */
export interface RequestRecord {
  n: number;
  /** Of the sequence with the most. */
  maxGeneratedTokens: number;
}

/** What one step of the engine did. */
export interface StepRecord {
  /** Computed, of prompts and generation. */
  numTokens: number;
  /** Loads and dumps that it began: of how many sequences, of how many blocks. */
  loadRequests: number;
  loadBlocks: number;
  saveRequests: number;
  saveBlocks: number;
}

/** A load from the store, or a dump to it, that has ended. */
export interface TransferRecord {
  kind: "load" | "save";
  /** That it moved. */
  blocks: number;
  bytes: number;
  durationMs: number;
}

/** Told of single events by the engine, for distributions. Calls must be cheap and not throw. */
export interface EngineObserver {
  stepped(record: StepRecord): void;
  /** Time to first token. */
  gotFirstToken(latencyMs: number): void;
  /** Between two tokens of a sequence. */
  gotNextToken(latencyMs: number): void;
  sequenceEnded(record: SequenceRecord): void;
  requestEnded(record: RequestRecord): void;
  /** Share of a prompt's full blocks that the store gave, 0 to 1. */
  lookedUp(hitRate: number): void;
  transferred(record: TransferRecord): void;
  /** Share of the true attention that the blocks kept by sparse attention had, 0 to 1. */
  recalled(share: number): void;
}

/** Load and totals of the engine as of now; totals are since the start. */
export interface EngineSnapshot {
  running: number;
  waiting: number;
  usedBlocks: number;
  numBlocks: number;
  numPreemptions: number;
  /** Tokens. */
  prefixCacheQueries: number;
  prefixCacheHits: number;
  /** Null without a store. */
  externalPrefixCache: { queries: number; hits: number } | null;
  promptTokens: number;
  generatedTokens: number;
  /** Of the prompt tokens: computed, found in the arena, loaded from the store. */
  promptTokensBySource: PromptTokensBySource;
  /** There are no workers until they are asked for again. */
  isAsleep: boolean;
  /** One per worker with a store. */
  stores: readonly StoreSnapshot[];
  /** Null when attention is dense. */
  sparse: SparseSnapshot | null;
}

/** What sparse attention came to; sizes are of each worker. */
export interface SparseSnapshot {
  method: string;
  /** Sequences that are sparse now. */
  running: number;
  /** Since the start: times that a sequence became sparse, with its prompt's blocks and those kept. */
  entered: number;
  promptBlocks: number;
  keptBlocks: number;
  /** Bytes of the KV cache that sequences do without now, and the most they ever did. */
  savedBytes: number;
  peakSavedBytes: number;
  /** Sequences that went on dense: the store had no room for them, or lost a block. */
  refused: number;
  lost: number;
  /** What a worker last told; null before the first sequence. */
  counts: SparseWorkerCounts | null;
}

/** Of one worker: counts and times since it started, sizes as of now. */
export interface SparseWorkerCounts {
  selections: number;
  earlySelections: number;
  selectMicros: number;
  loadMicros: number;
  switchMicros: number;
  waitMicros: number;
  lateSteps: number;
  /** (block, layer) pieces read from the store, and those chosen again. */
  loadedPieces: number;
  keptPieces: number;
  representationBytes: number;
  denseLayerBytes: number;
}

export interface PromptTokensBySource {
  computed: number;
  cached: number;
  loaded: number;
}

/** What a worker's store last told: counts of each tier since it was opened, sizes as of then. */
export interface StoreSnapshot {
  rank: number;
  /** By tier, `memory` or `files`; then by the native store's names. */
  tiers: Readonly<Record<string, Readonly<Record<string, number>>>>;
}
