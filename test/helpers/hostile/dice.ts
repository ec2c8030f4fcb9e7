/** xorshift32: the same throws on every run of a seed. */
export class Dice {
  #state: number;

  /** `seed`: any integer but zero. */
  constructor(seed: number) {
    this.#state = seed | 0 || 1;
  }

  /** An integer from 0 to `limit` - 1. */
  below(limit: number): number {
    this.#state ^= this.#state << 13;
    this.#state ^= this.#state >>> 17;
    this.#state ^= this.#state << 5;
    return (this.#state >>> 0) % limit;
  }

  /** True once in `times` throws. */
  once(times: number): boolean {
    return this.below(times) === 0;
  }

  pick<T>(items: readonly T[]): T {
    return items[this.below(items.length)]!;
  }

  /** One of the values, as often as the numbers beside them say. */
  weighted<T>(items: readonly (readonly [weight: number, value: T])[]): T {
    let left = this.below(items.reduce((sum, [weight]) => sum + weight, 0));
    for (const [weight, value] of items) {
      left -= weight;
      if (left < 0) return value;
    }
    throw new Error("There is nothing to choose from");
  }

  /** A throw of its own for one of many that run side by side. */
  split(): Dice {
    return new Dice(this.below(2 ** 31) + 1);
  }
}
