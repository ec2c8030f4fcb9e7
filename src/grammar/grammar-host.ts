import type {
  CompiledGrammar,
  Grammar,
  GrammarCompiler,
  GrammarMatcher,
} from "@mlc-ai/web-xgrammar";
import type { GrammarSpec } from "../messages/index.js";
import { quoteLiteral } from "./ebnf.js";
import { GrammarError } from "./grammar-errors.js";
import type { GrammarVocabulary, NamedGrammar } from "./protocol.js";
import { regexGrammar } from "./regex-grammar.js";
import { normalizeSchema } from "./schema-normal.js";
import { putStandIns, takeStandIns } from "./schema-stand-ins.js";
import { loadXGrammar, type XGrammar } from "./xgrammar.js";

/** What the library takes for no indentation. */
const ONE_LINE = -1;

/** Compiled grammars kept for requests to come. */
const KEPT_GRAMMARS = 64;

/** The sequence of a check. */
const CHECKED = -1;

/** Said of a grammar on which the library fails without a word. */
const TOO_COMPLEX = "it is nested too deeply or too large to compile";

interface Session {
  matcher: GrammarMatcher;
  /** The stop token came: nothing but it may follow. */
  isOver: boolean;
}

/** Grammars compiled for one vocabulary, and the sequences that follow them. Lives in a thread. */
export class GrammarHost {
  readonly #xgrammar: XGrammar;
  readonly #compiler: GrammarCompiler;
  /** int32 [ceil(vocab / 32)]: the stop tokens alone. */
  readonly #stopMask: Int32Array;
  /** Least recently used first. */
  readonly #compiled = new Map<string, CompiledGrammar>();
  readonly #sessions = new Map<number, Session>();
  #isLost = false;

  private constructor(
    xgrammar: XGrammar,
    compiler: GrammarCompiler,
    { vocabSize, stopTokenIds }: GrammarVocabulary,
  ) {
    this.#xgrammar = xgrammar;
    this.#compiler = compiler;
    this.#stopMask = new Int32Array(Math.ceil(vocabSize / 32));
    for (const id of stopTokenIds) this.#stopMask[id >> 5]! |= 1 << (id & 31);
  }

  static async create(vocabulary: GrammarVocabulary): Promise<GrammarHost> {
    const { tokens, vocabSize, stopTokenIds } = vocabulary;
    const xgrammar = loadXGrammar();
    const { TokenizerInfo, GrammarCompiler } = xgrammar.library;
    const info = await TokenizerInfo.createTokenizerInfo(
      [...tokens],
      "byte_level",
      false,
      vocabSize,
      [...stopTokenIds],
    );
    const compiler = await GrammarCompiler.createGrammarCompiler(info, false);
    return new GrammarHost(xgrammar, compiler, vocabulary);
  }

  /** Code trapped, by a stack that overflowed for one: its memory may be anything from now on. */
  get isLost(): boolean {
    return this.#isLost;
  }

  /** Compiles a grammar and computes its first mask. @throws Error as `compile` does. */
  async check(grammar: NamedGrammar): Promise<void> {
    try {
      await this.open(CHECKED, grammar);
    } finally {
      if (!this.#isLost) this.close(CHECKED);
    }
  }

  /** @throws Error that says in words what is wrong with the grammar. */
  async compile({ key, spec }: NamedGrammar): Promise<CompiledGrammar> {
    const known = this.#compiled.get(key);
    if (known !== undefined) {
      this.#compiled.delete(key);
      this.#compiled.set(key, known);
      return known;
    }
    const compiled = await this.#explain(async () => {
      const grammar = await this.#parse(spec);
      try {
        return await this.#compiler.compileGrammar(grammar);
      } finally {
        grammar.dispose();
      }
    });
    this.#compiled.set(key, compiled);
    if (this.#compiled.size > KEPT_GRAMMARS) this.#forgetOldest();
    return compiled;
  }

  /** The mask of the first token. */
  async open(seqId: number, grammar: NamedGrammar): Promise<Int32Array> {
    const compiled = await this.compile(grammar);
    const matcher = await this.#explain(() =>
      this.#xgrammar.library.GrammarMatcher.createGrammarMatcher(compiled),
    );
    this.#sessions.set(seqId, { matcher, isOver: false });
    return this.#nextMask(matcher);
  }

  /** The mask of the token after `tokenId`; null for a sequence that is closed. */
  async advance(seqId: number, tokenId: number): Promise<Int32Array | null> {
    const session = this.#sessions.get(seqId);
    if (session === undefined) return null;
    const { matcher } = session;
    if (!session.isOver) {
      if (!matcher.acceptToken(tokenId)) {
        throw new Error(`token ${tokenId} does not fit the grammar`);
      }
      session.isOver = matcher.isTerminated();
    }
    return session.isOver ? this.#stopMask.slice() : this.#nextMask(matcher);
  }

  close(seqId: number): void {
    this.#sessions.get(seqId)?.matcher.dispose();
    this.#sessions.delete(seqId);
  }

  async #nextMask(matcher: GrammarMatcher): Promise<Int32Array> {
    const mask = await this.#explain(() => matcher.getNextTokenBitmask());
    if (mask.some((word) => word !== 0)) return mask;
    throw new Error("there is no output that matches it");
  }

  #parse(spec: GrammarSpec): Promise<Grammar> {
    const { Grammar } = this.#xgrammar.library;
    switch (spec.kind) {
      case "json":
        return this.#parseSchema(spec);
      case "json_object":
        return Grammar.fromJSONSchema('{"type": "object"}', true);
      case "regex":
        return this.#parseRegex(spec.pattern);
      case "choice":
        return Grammar.fromEBNF(`root ::= ${spec.choices.map(quoteLiteral).join(" | ")}`);
      case "grammar":
        return Grammar.fromEBNF(spec.ebnf);
      case "structural_tag":
        return Grammar.fromStructuralTag(spec.tag);
    }
  }

  /** The library takes classes of characters beyond ASCII for bytes. */
  #parseRegex(pattern: string): Promise<Grammar> {
    const { Grammar } = this.#xgrammar.library;
    return isAscii(pattern)
      ? Grammar.fromStructuralTag({ type: "regex", pattern })
      : Grammar.fromEBNF(`root ::= ${regexGrammar(pattern, false)}`);
  }

  async #parseSchema(spec: Extract<GrammarSpec, { kind: "json" }>): Promise<Grammar> {
    const { Grammar } = this.#xgrammar.library;
    const { schema, ...marks } = takeStandIns(normalizeSchema(JSON.parse(spec.schema)));
    const text = JSON.stringify(schema);
    const grammar = await Grammar.fromJSONSchema(text, spec.anyWhitespace, ONE_LINE);
    if (marks.standIns.size + marks.otherNames.size === 0) return grammar;
    const ebnf = putStandIns(grammar.toString(), marks);
    grammar.dispose();
    return Grammar.fromEBNF(ebnf);
  }

  /** Runs library code; an abort becomes an Error with the reason that the library wrote. */
  async #explain<T>(run: () => Promise<T>): Promise<T> {
    this.#xgrammar.takeComplaints();
    try {
      return await run();
    } catch (cause) {
      if (cause instanceof GrammarError) throw cause;
      const fatal = this.#xgrammar.takeComplaints().find((line) => line.startsWith("[FATAL]"));
      const reason = fatal?.replace(/^\[FATAL\] \S+:\d+: /, "").replace(/^Check failed: .*?: /, "");
      this.#isLost ||= reason === undefined;
      throw new Error(reason ?? TOO_COMPLEX, { cause });
    }
  }

  #forgetOldest(): void {
    const [key, compiled] = this.#compiled.entries().next().value!;
    this.#compiled.delete(key);
    compiled.dispose();
  }
}

function isAscii(pattern: string): boolean {
  return !/[^\0-\x7f]|\\[ux]/.test(pattern);
}
