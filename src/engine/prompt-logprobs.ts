import type { PromptLogprobs } from "../messages/index.js";
import { toTokenLogprobs } from "./sequence-output.js";
import type { TokenLogprobs } from "./types.js";

/**
 * Collects the log-probabilities of a prompt from the steps that compute it. The first token has
 * none. After a preemption the same positions come again, with the same values.
 */
export class PromptLogprobCollector {
  readonly #positions: (TokenLogprobs | null)[];
  #numMissing: number;

  constructor(promptLength: number) {
    this.#positions = new Array<TokenLogprobs | null>(promptLength).fill(null);
    this.#numMissing = promptLength - 1;
  }

  add({ firstPosition, rows }: PromptLogprobs): void {
    for (let i = 0; i < rows.ranks.length; i++) {
      if (this.#positions[firstPosition + i] === null) this.#numMissing -= 1;
      this.#positions[firstPosition + i] = toTokenLogprobs(rows, i);
    }
  }

  /** One entry per prompt token, null for the first; null while some are missing. */
  get complete(): (TokenLogprobs | null)[] | null {
    return this.#numMissing === 0 ? this.#positions : null;
  }
}
