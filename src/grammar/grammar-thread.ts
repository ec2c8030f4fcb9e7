import { Worker } from "node:worker_threads";
import { GrammarError } from "./grammar-errors.js";
import type {
  FromGrammarThread,
  GrammarVocabulary,
  NamedGrammar,
  ToGrammarThread,
} from "./protocol.js";

interface Waiter<T> {
  resolve(value: T): void;
  reject(error: Error): void;
}

/** WebAssembly cannot be interrupted: a thread that takes too long is stopped. */
export async function inTime<T>(
  thread: GrammarThread,
  work: Promise<T>,
  limitMs: number,
): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const expiry = new Promise<never>((_, reject) => {
    timer = setTimeout(() => {
      reject(new GrammarError(`it takes more than ${limitMs / 1000} s to compile`));
      void thread.terminate();
    }, limitMs);
  });
  return Promise.race([work, expiry]).finally(() => clearTimeout(timer));
}

/**
 * A thread with compiled grammars and the sequences that follow them. It does not keep the process
 * alive. When it ends, whatever was asked of it is rejected.
 */
export class GrammarThread {
  readonly #worker: Worker;
  readonly #compiling = new Map<string, Waiter<void>[]>();
  /** The next mask of each open sequence. */
  readonly #masks = new Map<number, Promise<Int32Array>>();
  /** By turn. */
  readonly #awaited = new Map<number, Waiter<Int32Array>>();
  #turn = 0;
  #end: Error | null = null;

  constructor(vocabulary: GrammarVocabulary, entry: URL) {
    // Node calls the way in which the library is loaded experimental, at every start.
    this.#worker = new Worker(entry, { workerData: vocabulary, execArgv: ["--no-warnings"] });
    this.#worker.on("message", (message: FromGrammarThread) => this.#receive(message));
    this.#worker.on("error", (error) => this.#fail(error));
    this.#worker.on("exit", () => this.#fail(new Error("the grammar thread has ended")));
    // Listening for messages takes a reference, so this comes after it.
    this.#worker.unref();
  }

  get isAlive(): boolean {
    return this.#end === null;
  }

  /** Sequences that are open. */
  get numSequences(): number {
    return this.#masks.size;
  }

  /** Rejects with a GrammarError that says what is wrong with the grammar. */
  compile(grammar: NamedGrammar): Promise<void> {
    if (this.#end !== null) return Promise.reject(this.#end);
    return new Promise((resolve, reject) => {
      const waiters = this.#compiling.get(grammar.key);
      if (waiters === undefined) {
        this.#compiling.set(grammar.key, [{ resolve, reject }]);
        this.#post({ type: "compile", grammar });
      } else {
        waiters.push({ resolve, reject });
      }
    });
  }

  open(seqId: number, grammar: NamedGrammar): void {
    this.#post({ type: "open", seqId, turn: this.#expectMask(seqId), grammar });
  }

  advance(seqId: number, tokenId: number): void {
    if (!this.#masks.has(seqId)) return;
    this.#post({ type: "advance", seqId, turn: this.#expectMask(seqId), tokenId });
  }

  close(seqId: number): void {
    if (!this.#masks.delete(seqId)) return;
    this.#post({ type: "close", seqId });
  }

  /** int32 [ceil(vocab / 32)]: bit i of word w allows token 32 w + i as the sequence's next. */
  mask(seqId: number): Promise<Int32Array> {
    const lost = () => Promise.reject(new Error(`sequence ${seqId} has no grammar`));
    return this.#masks.get(seqId) ?? lost();
  }

  async terminate(): Promise<void> {
    this.#fail(new Error("the grammar thread was stopped"));
    await this.#worker.terminate();
  }

  #post(message: ToGrammarThread): void {
    if (this.#end === null) this.#worker.postMessage(message);
  }

  /** The mask to come becomes the sequence's; its turn. */
  #expectMask(seqId: number): number {
    const turn = this.#turn++;
    const mask = new Promise<Int32Array>((resolve, reject) => {
      if (this.#end === null) this.#awaited.set(turn, { resolve, reject });
      else reject(this.#end);
    });
    // Whoever needs the mask meets the error; a sequence that ends before does not.
    mask.catch(() => undefined);
    this.#masks.set(seqId, mask);
    return turn;
  }

  #receive(message: FromGrammarThread): void {
    this.#answer(message);
    if (message.type !== "mask" && message.isLost) void this.terminate();
  }

  #answer(message: FromGrammarThread): void {
    if (message.type === "compiled") {
      const { key, error } = message;
      for (const { resolve, reject } of this.#compiling.get(key) ?? []) {
        if (error === null) resolve();
        else reject(new GrammarError(error));
      }
      this.#compiling.delete(key);
      return;
    }
    const waiter = this.#awaited.get(message.turn);
    this.#awaited.delete(message.turn);
    if (message.type === "mask") waiter?.resolve(message.mask);
    else waiter?.reject(new GrammarError(message.error));
  }

  #fail(error: Error): void {
    if (this.#end !== null) return;
    this.#end = error;
    const waiters = [...[...this.#compiling.values()].flat(), ...this.#awaited.values()];
    this.#compiling.clear();
    this.#awaited.clear();
    for (const { reject } of waiters) reject(error);
  }
}
