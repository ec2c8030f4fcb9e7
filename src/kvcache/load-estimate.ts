/** Weight of the newest measurement. */
const WEIGHT = 0.2;
/** What a load costs beside its bytes: a step to look up, a step to start. */
const OVERHEAD_MS = 2;
/** Tokens of a step from which on it says something about the speed of prefill. */
const PREFILL_TOKENS = 32;
/** One in so many loads that look slow is made all the same: the store may be faster by now. */
const PROBE_EVERY = 16;

/** Whether loading blocks takes less time than computing them, by what was measured so far. */
export class LoadEstimate {
  readonly #bytesPerBlock: number;
  readonly #blockSize: number;
  #bytesPerMs: number | null = null;
  #tokensPerMs: number | null = null;
  #numSlow = 0;

  constructor({ bytesPerBlock, blockSize }: { bytesPerBlock: number; blockSize: number }) {
    this.#bytesPerBlock = bytesPerBlock;
    this.#blockSize = blockSize;
  }

  observeLoad(numBlocks: number, durationMs: number): void {
    if (numBlocks === 0) return;
    const rate = (numBlocks * this.#bytesPerBlock) / Math.max(durationMs, 0.01);
    this.#bytesPerMs = average(this.#bytesPerMs, rate);
  }

  observeStep(numTokens: number, durationMs: number): void {
    if (numTokens < PREFILL_TOKENS || durationMs <= 0) return;
    this.#tokensPerMs = average(this.#tokensPerMs, numTokens / durationMs);
  }

  /** Until both speeds were measured, loading is taken to be faster: it mostly is, by far. */
  isFaster(numBlocks: number): boolean {
    if (this.#bytesPerMs === null || this.#tokensPerMs === null) return true;
    const loadMs = OVERHEAD_MS + (numBlocks * this.#bytesPerBlock) / this.#bytesPerMs;
    const computeMs = (numBlocks * this.#blockSize) / this.#tokensPerMs;
    return loadMs < computeMs || ++this.#numSlow % PROBE_EVERY === 0;
  }
}

function average(before: number | null, now: number): number {
  return before === null ? now : before + WEIGHT * (now - before);
}
