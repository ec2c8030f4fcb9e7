import type { LogprobRows } from "../messages/index.js";
import type { SequenceEvent } from "../scheduler/index.js";
import type { IncrementalDetokenizer } from "../tokenizer/types.js";
import { type StopMatch, StopStringMatcher } from "./stop-strings.js";
import type { SamplingParams, SequenceDelta, TokenLogprobs } from "./types.js";

/** Turns the token events of one sequence into deltas: text, stop strings, reasons. */
export class SequenceOutput {
  readonly #index: number;
  readonly #sampling: SamplingParams;
  /** Null for token ids only. */
  readonly #detokenizer: IncrementalDetokenizer | null;
  readonly #matcher: StopStringMatcher;
  #numTokens = 0;

  constructor(index: number, sampling: SamplingParams, detokenizer: IncrementalDetokenizer | null) {
    this.#index = index;
    this.#sampling = sampling;
    this.#detokenizer = detokenizer;
    this.#matcher = new StopStringMatcher(sampling.stop, sampling.includeStopStrInOutput);
  }

  /**
   * The delta of one token. It carries a finish reason when the scheduler ended the sequence, or
   * when a stop string did, which the scheduler does not know yet.
   */
  push({ tokenId, logprobs, finish }: SequenceEvent): SequenceDelta {
    this.#numTokens += 1;
    // The text of a token that stops is no part of the answer, unless stop strings are.
    const isHidden = finish?.reason === "stop" && !this.#sampling.includeStopStrInOutput;
    const piece = isHidden ? "" : (this.#detokenizer?.push(tokenId) ?? "");
    const { text, stop } = this.#match(piece, finish !== null);
    return {
      index: this.#index,
      text,
      tokenIds: [tokenId],
      logprobs: logprobs === null ? null : [toTokenLogprobs(logprobs, 0)],
      finishReason: stop === null ? (finish?.reason ?? null) : "stop",
      stopReason: stop ?? finish?.stopReason ?? null,
    };
  }

  /** The last delta of a sequence that is cut off: the text still held back, no token. */
  abort(): SequenceDelta {
    return {
      index: this.#index,
      text: this.#match("", true).text,
      tokenIds: [],
      logprobs: null,
      finishReason: "abort",
      stopReason: null,
    };
  }

  /** Adds text; when it is the last, lets everything go out that no stop string forbids. */
  #match(piece: string, isLast: boolean): StopMatch {
    const canStop = this.#numTokens > this.#sampling.minTokens;
    const first = this.#matcher.push(piece, canStop);
    if (!isLast || first.stop !== null) return first;
    const rest = this.#matcher.push(this.#detokenizer?.flush() ?? "", canStop);
    const held = rest.stop === null ? this.#matcher.flush() : "";
    return { text: first.text + rest.text + held, stop: rest.stop };
  }
}

/** One position of log-probability rows. */
export function toTokenLogprobs(rows: LogprobRows, position: number): TokenLogprobs {
  const start = position * rows.width;
  return {
    tokenIds: Array.from(rows.tokenIds.subarray(start, start + rows.width)),
    logprobs: Array.from(rows.logprobs.subarray(start, start + rows.width)),
    rank: rows.ranks[position]!,
  };
}
