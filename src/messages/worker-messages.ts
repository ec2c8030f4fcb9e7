import type { SerializedError } from "../errors/index.js";
import type { Spans } from "../profile/index.js";
import type { SamplingParams } from "./sampling-params.js";
import type { SparseConfig, SparseNews, SparseWork } from "./sparse-messages.js";
import type { StoreConfig, StoreNews, StoreReport, StoreWork } from "./store-messages.js";

/** Raised by one whenever a message changes shape; both sides refuse another version. */
export const PROTOCOL_VERSION = 4;

export type KvDtype = "float32" | "bfloat16" | "float16";
export type WeightDtype = "auto" | "float32" | "bfloat16" | "float16";
export type Quantization = "int8" | "int4" | null;

/** Where a worker inherits the file that it shares with the other ranks and its watcher. */
export const SHARED_DESCRIPTOR = 3;

/** Environment variable that names the process without which a worker has no business. */
export const PARENT_PID_VARIABLE = "UCM_PARENT_PID";

/** All that a worker needs to load its part of the model: frozen for the worker's life. */
export interface WorkerConfig {
  /** Folder with config.json and weights. */
  modelPath: string;
  /** `dummy` makes random weights from config.json alone. */
  loadFormat: "auto" | "dummy";
  /** Merged over config.json. */
  hfOverrides: Record<string, unknown>;
  dtype: WeightDtype;
  quantization: Quantization;
  kvDtype: KvDtype;
  /** Tokens per block. */
  blockSize: number;
  /** Blocks in the KV arena of this worker. */
  numBlocks: number;
  maxModelLen: number;
  maxNumBatchedTokens: number;
  maxNumSeqs: number;
  /** Compute threads of this worker, native and ONNX Runtime alike. */
  threads: number;
  rank: number;
  worldSize: number;
  /** Cores that it stays on; empty for any. */
  cores: readonly number[];
  /** Longest wait for the other ranks in one operation. */
  rankTimeoutMs: number;
  /** Time to spin for the other ranks before sleeping; 0 where they share cores. */
  rankSpinMicros: number;
  /** Seed of requests without one. */
  seed: number;
  /** The KV cache store; null for none. */
  store: StoreConfig | null;
  /** Sparse attention; null for none. */
  sparse: SparseConfig | null;
  /** Whether results say what the time went for. */
  profile: boolean;
}

export interface LoadMessage {
  type: "load";
  version: number;
  config: WorkerConfig;
}

/** The part of {@link SamplingParams} that a worker acts on. */
export type WorkerSampling = Omit<
  SamplingParams,
  "n" | "stop" | "includeStopStrInOutput" | "skipSpecialTokens" | "grammar"
>;

/** A sequence the worker sees for the first time. */
export interface NewSequence {
  /** Unique among the sequences of an engine's life. */
  seqId: number;
  promptTokenIds: Int32Array;
  sampling: WorkerSampling;
}

/** What one sequence does in a step: tokens [numComputedTokens, numComputedTokens + numTokens). */
export interface ScheduledSequence {
  seqId: number;
  numComputedTokens: number;
  numTokens: number;
  /** Blocks appended to the sequence's block table by this step. */
  newBlockIds: Int32Array;
  /** The block table starts anew with newBlockIds: first step, or resumed after preemption. */
  resetBlockTable: boolean;
  /**
   * Task of a load into the blocks before numComputedTokens that may be under way: attention waits for
   * each layer of it. What comes of the sequence counts only when the step's news has the load, good.
   */
  awaitsLoad?: number;
}

/**
 * One step of the model, the same message to every rank. The worker keeps each sequence's tokens
 * (prompt and sampled) until it is named in `finished`; it samples for those sequences whose last
 * known token is computed by the step. A step that schedules nothing waits a moment for the store.
 */
export interface StepMessage {
  type: "step";
  stepId: number;
  newSequences: NewSequence[];
  scheduled: ScheduledSequence[];
  /** Sequences to forget, before anything else. */
  finished: Int32Array;
  /** The masks of this step come in a message of their own, which sampling waits for. */
  awaitsMasks?: boolean;
  /** Left out, or null, without work for the store. */
  store?: StoreWork | null;
  /** Left out, or null, without work for sparse attention. */
  sparse?: SparseWork | null;
}

/**
 * The tokens that a sequence may get next: bit i of word w of `mask`, int32 [ceil(vocab / 32)], is
 * token 32 w + i. Or why that cannot be told, which ends the sequence.
 */
export type TokenMask = { seqId: number } & ({ mask: Int32Array } | { error: SerializedError });

/** Follows a step that awaits it. Sequences that are not in it may get any token. */
export interface MasksMessage {
  type: "masks";
  stepId: number;
  masks: TokenMask[];
}

/** Log-probabilities of some positions, `width` entries each: the token itself, then the top ones. */
export interface LogprobRows {
  /** Entries per position, 1 + top count. */
  width: number;
  /** int32 [positions, width]. */
  tokenIds: Int32Array;
  /** float32 [positions, width]. */
  logprobs: Float32Array;
  /** int32 [positions]: rank of the token itself, 1 is the likeliest. */
  ranks: Int32Array;
}

export interface SampledToken {
  seqId: number;
  tokenId: number;
  /** One position, when asked for. */
  logprobs: LogprobRows | null;
}

/** Log-probabilities of prompt tokens [firstPosition, …): position p scored by the logits at p - 1. */
export interface PromptLogprobs {
  seqId: number;
  firstPosition: number;
  rows: LogprobRows;
}

/** A sequence that no token could be chosen for; it is over, the others go on. */
export interface FailedSequence {
  seqId: number;
  error: SerializedError;
}

export interface StepResultMessage {
  type: "stepResult";
  stepId: number;
  /** Each sequence that was due for a token is here, in `failed`, or in `sparse.lost`. */
  sampled: SampledToken[];
  failed: FailedSequence[];
  promptLogprobs: PromptLogprobs[];
  /** Wall time of the step inside the worker. */
  durationMs: number;
  /** Left out, or null, without news of the store. */
  store?: StoreNews | null;
  /** Left out, or null, without news of sparse attention. */
  sparse?: SparseNews | null;
  /** What each rank that the result is of did since the one before; only for a profile. */
  spans?: readonly Spans[];
}

export interface ProgressMessage {
  type: "progress";
  /** What is being done, for people: "Loading weights". */
  phase: string;
  done: number;
  total: number;
}

export interface ReadyMessage {
  type: "ready";
  version: number;
  /** Bytes of weights in their run-time form. */
  weightBytes: number;
  kvBytes: number;
  loadMs: number;
  /** Instruction set of the native kernels: scalar, avx2, avx512, avx512bf16, amx. */
  isa: string;
}

export interface FailedMessage {
  type: "failed";
  error: SerializedError;
}

/** Unasked for, once a second at most while the store has something new to tell. */
export interface StoreReportMessage {
  type: "storeReport";
  report: StoreReport;
}

export interface ShutdownMessage {
  type: "shutdown";
}

export type ToWorker = LoadMessage | StepMessage | MasksMessage | ShutdownMessage;
export type FromWorker =
  | ProgressMessage
  | ReadyMessage
  | FailedMessage
  | StepResultMessage
  | StoreReportMessage;
