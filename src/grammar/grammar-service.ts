import { createHash } from "node:crypto";
import type { GrammarSpec, OutputGrammar, TokenMask } from "../messages/index.js";
import { describeInvalid, GrammarError } from "./grammar-errors.js";
import { GrammarThread } from "./grammar-thread.js";
import type { GrammarVocabulary, NamedGrammar } from "./protocol.js";
import { refuseUnsupportedSchema } from "./schema-rules.js";

export interface GrammarTimeouts {
  /** To check one grammar, those before it included. */
  checkMs: number;
  /** To compute a mask. */
  maskMs: number;
}

export interface GrammarServiceOptions {
  /** Called once, when the first grammar comes. */
  makeVocabulary: () => GrammarVocabulary;
  /** The thread's program; tests give that of the build. */
  entry?: URL | undefined;
  timeouts?: Partial<GrammarTimeouts> | undefined;
}

const defaultTimeouts: GrammarTimeouts = { checkMs: 60_000, maskMs: 60_000 };

/** Grammars that are known to be good; more are checked again. */
const KNOWN_GRAMMARS = 1024;
/** Refused grammars after which the checking thread starts anew: each leaves some memory behind. */
const REFUSALS_PER_THREAD = 64;

interface Session {
  grammar: NamedGrammar;
  /** Null while the output is still free. */
  thread: GrammarThread | null;
  afterTokenId: number | null;
  /** Tokens known of the sequence. */
  length: number;
}

/**
 * The grammars of requests. One thread finds out whether a grammar is good, which may take seconds or
 * kill it; another serves the masks of good ones, computed while the model computes. A mask is a
 * function of grammar and output alone, so preemption does not concern it.
 */
export class GrammarService {
  readonly #options: GrammarServiceOptions;
  readonly #timeouts: GrammarTimeouts;
  readonly #sessions = new Map<number, Session>();
  readonly #known = new Set<string>();
  #vocabulary: GrammarVocabulary | null = null;
  #checking: GrammarThread | null = null;
  #serving: GrammarThread | null = null;
  #numRefusals = 0;

  constructor(options: GrammarServiceOptions) {
    this.#options = options;
    this.#timeouts = { ...defaultTimeouts, ...options.timeouts };
  }

  /** Resolves when the grammar is known to be good. UCM_ERR_INVALID_REQUEST when it is not. */
  async prepare(spec: GrammarSpec): Promise<void> {
    const grammar = nameGrammar(spec);
    if (this.#known.has(grammar.key)) return;
    refuseUnsupportedSchema(spec);
    const thread = this.#alive(this.#checking);
    this.#checking = thread;
    try {
      await this.#inTime(thread, thread.compile(grammar), this.#timeouts.checkMs);
    } catch (error) {
      this.#countRefusal(thread);
      throw describeInvalid(spec, error as Error);
    }
    if (this.#known.size >= KNOWN_GRAMMARS) this.#known.clear();
    this.#known.add(grammar.key);
    // A thread that serves nobody may as well be the one that has the grammar already.
    if (thread === this.#checking && (this.#serving?.numSequences ?? 0) === 0) {
      [this.#checking, this.#serving] = [this.#serving, this.#checking];
    }
  }

  /** A sequence begins, after a prompt of `promptLength` tokens. */
  open(seqId: number, { spec, afterTokenId }: OutputGrammar, promptLength: number): void {
    const grammar = nameGrammar(spec);
    const session: Session = { grammar, thread: null, afterTokenId, length: promptLength };
    this.#sessions.set(seqId, session);
    if (afterTokenId === null) this.#start(seqId, session);
  }

  /** The sequence got this token; nothing happens for one without a grammar. */
  advance(seqId: number, tokenId: number): void {
    const session = this.#sessions.get(seqId);
    if (session === undefined) return;
    session.length++;
    if (session.thread !== null) session.thread.advance(seqId, tokenId);
    else if (tokenId === session.afterTokenId) this.#start(seqId, session);
  }

  close(seqId: number): void {
    this.#sessions.get(seqId)?.thread?.close(seqId);
    this.#sessions.delete(seqId);
  }

  /**
   * Masks for the sequences of a step that are bound by a grammar and get a token; `end` is one past
   * the last token that the step computes. Null when there are none. Never rejects: what went wrong
   * is told with the sequence.
   */
  masks(scheduled: Iterable<{ seqId: number; end: number }>): Promise<TokenMask[]> | null {
    const masks: Promise<TokenMask>[] = [];
    for (const { seqId, end } of scheduled) {
      const session = this.#sessions.get(seqId);
      if (session !== undefined && session.thread !== null && end >= session.length) {
        masks.push(this.#mask(seqId, session.thread, session.grammar.spec));
      }
    }
    return masks.length === 0 ? null : Promise.all(masks);
  }

  /** Ends the threads. */
  async end(): Promise<void> {
    await Promise.all([this.#checking?.terminate(), this.#serving?.terminate()]);
  }

  async #mask(seqId: number, thread: GrammarThread, spec: GrammarSpec): Promise<TokenMask> {
    try {
      const mask = await this.#inTime(thread, thread.mask(seqId), this.#timeouts.maskMs);
      return { seqId, mask };
    } catch (error) {
      return { seqId, error: describeInvalid(spec, error as Error).toJSON() };
    }
  }

  #start(seqId: number, session: Session): void {
    this.#serving = this.#alive(this.#serving);
    session.thread = this.#serving;
    session.thread.open(seqId, session.grammar);
  }

  #alive(thread: GrammarThread | null): GrammarThread {
    if (thread?.isAlive) return thread;
    this.#vocabulary ??= this.#options.makeVocabulary();
    const { entry = new URL("./thread.js", import.meta.url) } = this.#options;
    return new GrammarThread(this.#vocabulary, entry);
  }

  /** WebAssembly cannot be interrupted: a thread that takes too long is stopped. */
  async #inTime<T>(thread: GrammarThread, work: Promise<T>, limitMs: number): Promise<T> {
    let timer: NodeJS.Timeout | undefined;
    const expiry = new Promise<never>((_, reject) => {
      timer = setTimeout(() => {
        reject(new GrammarError(`it takes more than ${limitMs / 1000} s to compile`));
        void thread.terminate();
      }, limitMs);
    });
    return Promise.race([work, expiry]).finally(() => clearTimeout(timer));
  }

  #countRefusal(thread: GrammarThread): void {
    this.#numRefusals++;
    if (this.#numRefusals % REFUSALS_PER_THREAD !== 0 || thread !== this.#checking) return;
    this.#checking = null;
    void thread.terminate();
  }
}

function nameGrammar(spec: GrammarSpec): NamedGrammar {
  return { key: createHash("sha256").update(JSON.stringify(spec)).digest("base64"), spec };
}
