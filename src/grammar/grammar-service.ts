import { createHash } from "node:crypto";
import type { GrammarSpec, OutputGrammar, TokenMask } from "../messages/index.js";
import { GrammarChecker } from "./grammar-checker.js";
import { describeInvalid, GrammarError } from "./grammar-errors.js";
import { GrammarThread, inTime } from "./grammar-thread.js";
import type { GrammarVocabulary, NamedGrammar } from "./protocol.js";
import { refuseUnsupportedSchema } from "./schema-rules.js";

export interface GrammarTimeouts {
  /** To check one grammar. */
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

const defaultTimeouts: GrammarTimeouts = { checkMs: 30_000, maskMs: 60_000 };

/** Grammars that are known to be good; more are checked again. */
const KNOWN_GRAMMARS = 1024;
/** A grammar that took longer to compile is served by the thread that has it, and by no other. */
const SLOW_MS = 1000;
/** Threads that a sequence may lose before it fails. */
const MAX_LOST = 3;
/** Threads of slow grammars. */
const MAX_SLOW = 3;

interface Session {
  grammar: NamedGrammar;
  /** Null while the output is still free. */
  thread: GrammarThread | null;
  afterTokenId: number | null;
  /** Tokens that the grammar has seen, for a thread that takes over. */
  tokenIds: number[];
  /** Threads lost under it. */
  numLost: number;
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
  readonly #checker: GrammarChecker;
  #serving: GrammarThread | null = null;
  /** By the grammar that each is for, the longest unused first. */
  readonly #slow = new Map<string, GrammarThread>();

  constructor(options: GrammarServiceOptions) {
    this.#options = options;
    this.#timeouts = { ...defaultTimeouts, ...options.timeouts };
    this.#checker = new GrammarChecker({
      start: () => this.#startThread(),
      limitMs: this.#timeouts.checkMs,
      onGood: (grammar, thread, tookMs) => this.#settle(grammar, thread, tookMs),
    });
  }

  /**
   * Resolves when the grammar is known to be good. UCM_ERR_INVALID_REQUEST when it is not,
   * UCM_ERR_QUEUE_FULL when too many are before it; `signal` gives up waiting.
   */
  async prepare(spec: GrammarSpec, signal?: AbortSignal): Promise<void> {
    const grammar = nameGrammar(spec);
    if (this.#isKnown(grammar)) return;
    refuseUnsupportedSchema(spec);
    try {
      await this.#checker.check(grammar, signal);
    } catch (error) {
      if (signal?.aborted) throw error;
      throw describeInvalid(spec, error as Error);
    }
  }

  /** A sequence begins, after a prompt of `promptLength` tokens. */
  open(seqId: number, { spec, afterTokenId }: OutputGrammar, promptLength: number): void {
    const grammar = nameGrammar(spec);
    const session: Session = {
      ...{ grammar, afterTokenId, length: promptLength },
      ...{ thread: null, tokenIds: [], numLost: 0 },
    };
    this.#sessions.set(seqId, session);
    if (afterTokenId === null) this.#start(seqId, session);
  }

  /** The sequence got this token; nothing happens for one without a grammar. */
  advance(seqId: number, tokenId: number): void {
    const session = this.#sessions.get(seqId);
    if (session === undefined) return;
    session.length++;
    if (session.thread !== null) {
      session.tokenIds.push(tokenId);
      session.thread.advance(seqId, tokenId);
    } else if (tokenId === session.afterTokenId) this.#start(seqId, session);
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
        masks.push(this.#mask(seqId, session, session.thread));
      }
    }
    return masks.length === 0 ? null : Promise.all(masks);
  }

  /** Ends the threads. */
  async end(): Promise<void> {
    const threads = [this.#serving, ...this.#slow.values()];
    await Promise.all([this.#checker.end(), ...threads.map((thread) => thread?.terminate())]);
  }

  async #mask(seqId: number, session: Session, thread: GrammarThread): Promise<TokenMask> {
    try {
      const mask = await inTime(thread, thread.mask(seqId), this.#timeouts.maskMs);
      return { seqId, mask };
    } catch (error) {
      const isCulprit = error instanceof GrammarError || thread.isAlive;
      const isOpen = this.#sessions.get(seqId) === session;
      if (!isCulprit && isOpen && session.numLost < MAX_LOST) {
        return this.#mask(seqId, session, this.#takeOver(seqId, session, thread));
      }
      return { seqId, error: describeInvalid(session.grammar.spec, error as Error).toJSON() };
    }
  }

  /** Another thread goes on where one was lost, by the fault of another sequence. */
  #takeOver(seqId: number, session: Session, lost: GrammarThread): GrammarThread {
    if (session.thread === lost) {
      session.numLost++;
      this.#start(seqId, session);
      for (const tokenId of session.tokenIds) session.thread.advance(seqId, tokenId);
    }
    return session.thread!;
  }

  #start(seqId: number, session: Session): asserts session is Session & { thread: GrammarThread } {
    const { key } = session.grammar;
    const slow = this.#slow.get(key);
    if (slow?.isAlive) {
      this.#slow.delete(key);
      this.#slow.set(key, slow);
      session.thread = slow;
    } else {
      this.#serving = this.#serving?.isAlive ? this.#serving : this.#startThread();
      session.thread = this.#serving;
    }
    session.thread.open(seqId, session.grammar);
  }

  #startThread(): GrammarThread {
    this.#vocabulary ??= this.#options.makeVocabulary();
    const { entry = new URL("./thread.js", import.meta.url) } = this.#options;
    return new GrammarThread(this.#vocabulary, entry);
  }

  #isKnown({ key }: NamedGrammar): boolean {
    return this.#known.has(key) && this.#slow.get(key)?.isAlive !== false;
  }

  /** Says where a good grammar is served, and which thread the checker goes on with. */
  #settle(grammar: NamedGrammar, thread: GrammarThread, tookMs: number): GrammarThread | null {
    if (this.#known.size >= KNOWN_GRAMMARS) this.#known.clear();
    this.#known.add(grammar.key);
    if ((this.#serving?.numSequences ?? 0) === 0) {
      // A thread that serves nobody may as well be the one that has the grammar already.
      const idle = this.#serving;
      this.#serving = thread;
      return idle;
    }
    if (tookMs <= SLOW_MS || !this.#makeRoomForSlow()) return thread;
    this.#slow.set(grammar.key, thread);
    return null;
  }

  /** Ends the thread that was not used for longest, if there are many; false when all are in use. */
  #makeRoomForSlow(): boolean {
    for (const [key, thread] of this.#slow) {
      if (this.#slow.size < MAX_SLOW) break;
      if (thread.isAlive && thread.numSequences > 0) continue;
      this.#slow.delete(key);
      this.#known.delete(key);
      void thread.terminate();
    }
    return this.#slow.size < MAX_SLOW;
  }
}

function nameGrammar(spec: GrammarSpec): NamedGrammar {
  return { key: createHash("sha256").update(JSON.stringify(spec)).digest("base64"), spec };
}
