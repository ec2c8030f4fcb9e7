import type { UcmError } from "../errors/index.js";
import type {
  LogprobRows,
  SamplingParams,
  StepMessage,
  StepResultMessage,
  TokenMask,
} from "../messages/index.js";

/** Runs steps on the workers; the launcher provides it. */
export interface Executor {
  /**
   * One step at a time. `masks` come while the step runs and are sent on to its sampling; it never
   * rejects. Rejects with a UcmError when the workers are gone.
   */
  execute(step: StepMessage, masks?: Promise<TokenMask[]> | null): Promise<StepResultMessage>;
}

/** One whose workers are replaced when they are lost, with nothing of what they knew. */
export interface RecoveringExecutor extends Executor {
  /** The listener is told of each loss at once, also between steps. */
  onLost(listener: (error: UcmError) => void): void;
  /**
   * Resolves when other workers have taken the place of those that `error` came from; rejects with
   * the reason when none will. Stops the workers if they still run.
   */
  recover(error: UcmError): Promise<void>;
}

/** One whose workers can be ended between two steps, and started again with nothing of what they knew. */
export interface SleepingExecutor extends Executor {
  /** Resolves when no worker is left and all their memory is the system's again. */
  sleep(): Promise<void>;
  /** Resolves when other workers are loaded. */
  wakeUp(): Promise<void>;
}

export interface GenerateRequest {
  /** For logs and responses; the engine adds what it needs to keep ids unique. */
  requestId: string;
  promptTokenIds: number[];
  sampling: SamplingParams;
  /** Lower first under the priority policy. */
  priority: number;
  /** Only requests with the same salt share cached prefixes; null is one for all that give none. */
  cacheSalt: string | null;
  /** False leaves text empty: token ids only. */
  detokenize: boolean;
  /** The answer goes out piece by piece; for logs alone. */
  isStreamed?: boolean;
}

/** `error` never appears here: a failed request rejects its stream with a UcmError. */
export type FinishReason = "stop" | "length" | "abort";

/** Log-probabilities of one token and its rivals, as text-free facts. */
export interface TokenLogprobs {
  /** The token itself first, then the top ones (which may name it again). */
  tokenIds: number[];
  logprobs: number[];
  /** Rank of the token itself, 1 is the likeliest. */
  rank: number;
}

/** News of one sequence of a request since the last output. */
export interface SequenceDelta {
  /** 0 … n-1. */
  index: number;
  text: string;
  tokenIds: number[];
  /** One per token id when asked for. */
  logprobs: TokenLogprobs[] | null;
  finishReason: FinishReason | null;
  /** The stop string or stop token id that matched, null for EOS and length. */
  stopReason: string | number | null;
}

export interface GenerateOutput {
  delta: SequenceDelta;
  /** Set on the first output of the request when prompt log-probabilities were asked for. */
  promptLogprobs: (TokenLogprobs | null)[] | null;
  /** Prompt tokens whose keys and values were found, not computed; of the sequence that began first. */
  numCachedTokens: number;
  /** Milliseconds of the engine's clock: arrival, first schedule, first token, last token. */
  times: RequestTimes;
}

/** Of the whole request: the first schedule and token of any of its sequences. 0 until it happens. */
export interface RequestTimes {
  arrivalMs: number;
  scheduledMs: number;
  firstTokenMs: number;
  lastTokenMs: number;
}

/** Exposed so that callers without logprob interest need not import messages. */
export type { LogprobRows, SamplingParams };
