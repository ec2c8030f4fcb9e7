import type { SparseNews, StepMessage } from "../messages/index.js";

/**
 * Joins what the ranks of a model say of sparse attention, of which each holds its own part of every
 * block: a sequence is ready when every rank has its part safe, and refused when one has not. Ranks
 * may say so in different steps. The counts are rank 0's, as ranks work side by side.
 */
export class SparseRanks {
  readonly #numRanks: number;
  /** Sequences that some ranks are ready with. */
  readonly #numReady = new Map<number, number>();

  constructor(numRanks: number) {
    this.#numRanks = numRanks;
  }

  /** `news` has one entry per rank for the step, null for none. */
  merge(
    { finished, sparse }: Pick<StepMessage, "finished" | "sparse">,
    news: readonly (SparseNews | null)[],
  ): SparseNews | null {
    // What was said of a sequence before it left is of no matter when it comes again.
    for (const seqId of [...finished, ...(sparse?.leave ?? [])]) this.#numReady.delete(seqId);
    const said = news.filter((one) => one !== null);
    const first = said[0];
    if (first === undefined) return null;
    const all = (key: "ready" | "refused" | "lost") => said.flatMap((one) => one[key]);
    const refused = [...new Set(all("refused"))];
    for (const seqId of refused) this.#numReady.delete(seqId);
    const ready = all("ready").filter((seqId) => this.#countReady(seqId));
    return {
      ready,
      refused,
      lost: [...new Set(all("lost"))],
      recalls: Float32Array.from(said.flatMap((one) => [...one.recalls])),
      counts: first.counts,
    };
  }

  /** Whether this was the last rank to be ready. */
  #countReady(seqId: number): boolean {
    const count = (this.#numReady.get(seqId) ?? 0) + 1;
    if (count < this.#numRanks) this.#numReady.set(seqId, count);
    else this.#numReady.delete(seqId);
    return count === this.#numRanks;
  }
}
