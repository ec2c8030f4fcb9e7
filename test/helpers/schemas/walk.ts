import { GrammarHost } from "../../../src/grammar/grammar-host.js";
import { grammarVocabulary } from "../../../src/grammar/index.js";
import type { Tokenizer } from "../../../src/tokenizer/index.js";
import type { Dice } from "../hostile/dice.js";

/** Tokens of an output after which it is given up as endless. */
const MAX_TOKENS = 4000;
/** Tokens after which the walk heads for the end. */
const FREE_TOKENS = 60;

/** Random outputs that follow grammars, drawn from the masks without a model. */
export class Walker {
  readonly #host: GrammarHost;
  readonly #tokenizer: Tokenizer;
  readonly #eos: number;
  /** Tokens that bring JSON nearer to its end. */
  readonly #closing: readonly number[];
  #nextSeqId = 0;

  private constructor(host: GrammarHost, tokenizer: Tokenizer, eos: number) {
    this.#host = host;
    this.#tokenizer = tokenizer;
    this.#eos = eos;
    this.#closing = ['"', "}", "]"].flatMap((text) =>
      tokenizer.encode(text, { addSpecialTokens: false }),
    );
  }

  static async create(tokenizer: Tokenizer): Promise<Walker> {
    const eos = tokenizer.eosTokenId!;
    const { vocabSize } = tokenizer;
    const vocabulary = grammarVocabulary(tokenizer, { vocabSize, eosTokenIds: [eos] });
    return new Walker(await GrammarHost.create(vocabulary), tokenizer, eos);
  }

  /** A text of the grammar; null for one without an end. @throws Error for a grammar that is refused. */
  async output(schema: string, dice: Dice): Promise<string | null> {
    const seqId = this.#nextSeqId++;
    const spec = { kind: "json", schema, anyWhitespace: dice.once(2) } as const;
    const tokenIds: number[] = [];
    try {
      let mask = await this.#host.open(seqId, { key: `${spec.anyWhitespace}${schema}`, spec });
      while (tokenIds.length < MAX_TOKENS) {
        const tokenId = this.#choose(mask, dice, tokenIds.length > FREE_TOKENS);
        if (tokenId === this.#eos) return this.#tokenizer.decode(tokenIds);
        tokenIds.push(tokenId);
        mask = (await this.#host.advance(seqId, tokenId))!;
      }
      return null;
    } finally {
      if (!this.#host.isLost) this.#host.close(seqId);
    }
  }

  get isLost(): boolean {
    return this.#host.isLost;
  }

  #choose(mask: Int32Array, dice: Dice, isEnding: boolean): number {
    const isAllowed = (id: number) => ((mask[id >> 5]! >>> (id & 31)) & 1) === 1;
    if (isAllowed(this.#eos) && (isEnding || dice.once(2))) return this.#eos;
    const closing = this.#closing.filter(isAllowed);
    if (closing.length > 0 && (isEnding || dice.once(4))) return dice.pick(closing);
    const allowed: number[] = [];
    for (let id = 0; id < this.#tokenizer.vocabSize; id++) if (isAllowed(id)) allowed.push(id);
    // Often the shortest way, which is a character: long tokens are many and end nothing.
    return dice.pick(allowed);
  }
}
