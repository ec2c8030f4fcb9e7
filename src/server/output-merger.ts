import type { GenerateOutput, SequenceDelta, TokenLogprobs } from "../engine/types.js";

/** What one sequence of one prompt generated since it was last asked for. */
export interface MergedOutput {
  promptIndex: number;
  delta: SequenceDelta;
  promptLogprobs: (TokenLogprobs | null)[] | null;
  numCachedTokens: number;
}

/**
 * Collects outputs of several streams for one consumer. Outputs that wait are merged per sequence,
 * so what a slow reader costs is bounded by the answer itself, in one piece per sequence.
 */
export class OutputMerger {
  readonly #waiting = new Map<string, MergedOutput>();
  #openSources: number;
  #failure: { error: unknown } | null = null;
  #wake: (() => void) | null = null;

  constructor(sources: number) {
    this.#openSources = sources;
  }

  put(promptIndex: number, output: GenerateOutput): void {
    const key = `${promptIndex}:${output.delta.index}`;
    const waiting = this.#waiting.get(key);
    if (waiting === undefined) {
      this.#waiting.set(key, { promptIndex, ...copyOutput(output) });
    } else {
      appendDelta(waiting.delta, output.delta);
      waiting.promptLogprobs ??= output.promptLogprobs;
    }
    this.#notify();
  }

  /** One source has ended. */
  close(): void {
    this.#openSources--;
    this.#notify();
  }

  /** The consumer meets the first error, after what was put before it. */
  fail(error: unknown): void {
    this.#failure ??= { error };
    this.#notify();
  }

  /** The oldest output that waits, null when every source has ended. */
  async take(): Promise<MergedOutput | null> {
    for (;;) {
      const oldest = this.#waiting.entries().next();
      if (!oldest.done) {
        this.#waiting.delete(oldest.value[0]);
        return oldest.value[1];
      }
      if (this.#failure !== null) throw this.#failure.error;
      if (this.#openSources === 0) return null;
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }

  #notify(): void {
    this.#wake?.();
    this.#wake = null;
  }
}

function copyOutput({ delta, promptLogprobs, numCachedTokens }: GenerateOutput) {
  return { delta: copyDelta(delta), promptLogprobs, numCachedTokens };
}

/** A delta whose arrays may be appended to. */
export function copyDelta(delta: SequenceDelta): SequenceDelta {
  const logprobs = delta.logprobs === null ? null : [...delta.logprobs];
  return { ...delta, tokenIds: [...delta.tokenIds], logprobs };
}

/** Adds `news` to `delta`, in place. */
export function appendDelta(delta: SequenceDelta, news: SequenceDelta): void {
  delta.text += news.text;
  for (const tokenId of news.tokenIds) delta.tokenIds.push(tokenId);
  for (const entry of news.logprobs ?? []) {
    delta.logprobs ??= [];
    delta.logprobs.push(entry);
  }
  delta.finishReason = news.finishReason;
  delta.stopReason = news.stopReason;
}
