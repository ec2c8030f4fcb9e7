import type { TokenScores } from "./logprobs.js";

/** News of one choice since the last: what was generated, as the engine tells it. */
export interface ChoiceDelta {
  text: string;
  tokenIds: readonly number[];
  /** One per token when asked for. */
  logprobs: readonly TokenScores[] | null;
  finishReason: string | null;
  /** The stop string or stop token id that matched, null for EOS and length. */
  stopReason: string | number | null;
}

/** What all parts of one response share. */
export interface ResponseHead {
  /** With its prefix: cmpl-… or chatcmpl-…. */
  id: string;
  /** Unix time in seconds. */
  created: number;
  model: string;
}
