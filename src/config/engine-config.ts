import type {
  KvDtype,
  Quantization,
  SparseConfig,
  StoreConfig,
  WeightDtype,
} from "../messages/index.js";

/** Everything that was decided before the first worker starts: merged, validated, sized, frozen. */
export interface EngineConfig {
  readonly model: {
    /** Folder with config.json. */
    readonly path: string;
    /** As the user typed it; the default served name. */
    readonly tag: string;
    /** Names that requests may use; the first is echoed. */
    readonly servedNames: readonly string[];
    /** Folder with tokenizer.json; null under --skip-tokenizer-init. */
    readonly tokenizerPath: string | null;
    readonly loadFormat: "auto" | "dummy";
    readonly dtype: WeightDtype;
    readonly quantization: Quantization;
    readonly hfOverrides: Record<string, unknown>;
    readonly vocabSize: number;
    /** Tokens of prompt and output together. */
    readonly maxModelLen: number;
    readonly eosTokenIds: readonly number[];
    /** Sampling defaults of generation_config.json and its overrides, in OpenAI field names. */
    readonly defaultSampling: Readonly<Record<string, number>>;
    /** Cap for logprobs and prompt_logprobs, -1 for none. */
    readonly maxLogprobs: number;
    readonly seed: number;
  };
  readonly cache: {
    /** Tokens per block. */
    readonly blockSize: number;
    readonly kvDtype: KvDtype;
    readonly numBlocks: number;
    readonly kvBytes: number;
    /** Full blocks stay findable by their hash, for later sequences with the same start. */
    readonly enablePrefixCaching: boolean;
    /** PYTHONHASHSEED, which the chain of block hashes starts from; null when it is not set. */
    readonly blockHashSeed: string | null;
  };
  /** The external KV cache store of every worker; null for none. */
  readonly store: StoreConfig | null;
  /** Sparse attention, which needs a store that loads and dumps; null for dense. */
  readonly sparse: SparseConfig | null;
  /** File of the profile that is made; null for none. */
  readonly profilePath: string | null;
  readonly scheduler: {
    readonly maxNumSeqs: number;
    readonly maxNumBatchedTokens: number;
    readonly enableChunkedPrefill: boolean;
    /** Prefill tokens of one request per step at most; 0 is no limit. */
    readonly longPrefillTokenThreshold: number;
    readonly policy: "fcfs" | "priority";
    /** Requests that may wait beyond the running ones before new ones get 429. */
    readonly maxNumQueuedRequests: number;
  };
  readonly parallel: {
    readonly tensorParallelSize: number;
    /** Compute threads per worker. */
    readonly threads: number;
    /** Of each rank the cores that it stays on, no core twice; empty where workers are not pinned. */
    readonly cores: readonly (readonly number[])[];
    /** Silence of a worker after which it counts as hung. */
    readonly workerTimeoutMs: number;
  };
}
