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
  /** One per worker with a store. */
  stores: readonly StoreSnapshot[];
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
