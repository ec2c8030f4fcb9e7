import type { SequenceOrder } from "./policy.js";
import type { Sequence } from "./sequence.js";

/** Sequences that wait for admission, best first. */
export class WaitingQueue {
  readonly #order: SequenceOrder;
  readonly #sequences: Sequence[] = [];

  constructor(order: SequenceOrder) {
    this.#order = order;
  }

  get size(): number {
    return this.#sequences.length;
  }

  /** The sequences at this moment, best first. */
  inOrder(): Sequence[] {
    return [...this.#sequences];
  }

  add(sequence: Sequence): void {
    this.#sequences.splice(this.#position(sequence), 0, sequence);
  }

  /** Removes a sequence that is in the queue. */
  remove(sequence: Sequence): void {
    this.#sequences.splice(this.#position(sequence), 1);
  }

  /** Number of sequences that go before this one, by binary search. */
  #position(sequence: Sequence): number {
    let low = 0;
    let high = this.#sequences.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.#order(this.#sequences[middle]!, sequence) < 0) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}
