import { UcmError } from "../errors/index.js";
import { type GrammarThread, inTime } from "./grammar-thread.js";
import type { NamedGrammar } from "./protocol.js";

/** Grammars that may wait to be checked. */
const MAX_WAITING = 256;
/** Refused grammars after which the thread starts anew: each leaves some memory behind. */
const REFUSALS_PER_THREAD = 64;

export interface CheckerOptions {
  start: () => GrammarThread;
  /** For one grammar, those before it not included. */
  limitMs: number;
  /** Told of a grammar that is good and took `tookMs`; gives the thread to go on with, null for a new one. */
  onGood: (grammar: NamedGrammar, thread: GrammarThread, tookMs: number) => GrammarThread | null;
}

/**
 * Finds out whether grammars are good, one after the other in a thread of its own: a grammar may take
 * long or kill the thread, which is no fault of those that wait behind it.
 */
export class GrammarChecker {
  readonly #options: CheckerOptions;
  #thread: GrammarThread | null = null;
  #last: Promise<unknown> = Promise.resolve();
  #numWaiting = 0;
  #numRefusals = 0;

  constructor(options: CheckerOptions) {
    this.#options = options;
  }

  /**
   * Resolves when the grammar was found good. @throws GrammarError when it is not, UcmError
   * UCM_ERR_QUEUE_FULL when too many wait, and `signal`'s reason when it aborts before its turn.
   */
  async check(grammar: NamedGrammar, signal?: AbortSignal): Promise<void> {
    if (this.#numWaiting >= MAX_WAITING) {
      throw new UcmError(
        "UCM_ERR_QUEUE_FULL",
        `${this.#numWaiting} grammars of structured outputs wait to be compiled. Please retry later.`,
      );
    }
    this.#numWaiting++;
    const turn = this.#last.then(() => this.#run(grammar, signal));
    this.#last = turn.catch(() => undefined);
    try {
      await turn;
    } finally {
      this.#numWaiting--;
    }
  }

  async end(): Promise<void> {
    await this.#thread?.terminate();
  }

  async #run(grammar: NamedGrammar, signal?: AbortSignal): Promise<void> {
    signal?.throwIfAborted();
    const { start, limitMs, onGood } = this.#options;
    const thread = this.#thread?.isAlive ? this.#thread : start();
    this.#thread = thread;
    const startedMs = performance.now();
    try {
      await inTime(thread, thread.compile(grammar), limitMs);
    } catch (error) {
      // Nothing else is asked of the thread: this is the moment to end it.
      if (++this.#numRefusals % REFUSALS_PER_THREAD === 0) void thread.terminate();
      throw error;
    }
    this.#thread = onGood(grammar, thread, performance.now() - startedMs);
  }
}
