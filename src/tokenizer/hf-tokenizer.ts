import { Tokenizer as LibraryTokenizer } from "@huggingface/tokenizers";
import { createBpeMerger } from "./bpe.js";
import type { ChatTemplates } from "./chat-template.js";
import { createDetokenizer, decodeTokens } from "./detokenizer.js";
import type { TokenBytes } from "./token-bytes.js";
import type { TokenizerConfig, TokenizerJson } from "./tokenizer-json.js";
import type {
  ChatMessage,
  ChatTemplateOptions,
  IncrementalDetokenizer,
  Tokenizer,
} from "./types.js";

/** What is used of the library, whose own types do not resolve under `nodenext`. */
interface Library {
  encode(text: string, options: { add_special_tokens: boolean }): { ids: number[] };
  model: { bpe(word: string): string[] };
}

const NO_BYTES = Buffer.alloc(0);

/**
 * A tokenizer.json tokenizer. The library normalizes, splits and post-processes text; merging and
 * the way back to text are ours, for speed on long words and exact streaming.
 */
export class HfTokenizer implements Tokenizer {
  readonly vocabSize: number;
  readonly bosTokenId: number | null;
  readonly eosTokenId: number | null;
  readonly #library: Library;
  readonly #config: TokenizerConfig;
  readonly #tokenBytes: TokenBytes;
  readonly #templates: ChatTemplates;
  /** Token by id, with holes where ids are not used. */
  readonly #tokens: string[] = [];
  readonly #specialIds: ReadonlySet<number>;
  /** Bytes by id, filled as tokens are met. */
  readonly #bytes: Buffer[] = [];

  constructor(
    json: TokenizerJson,
    config: TokenizerConfig,
    tokenBytes: TokenBytes,
    templates: ChatTemplates,
  ) {
    this.#config = config;
    this.#tokenBytes = tokenBytes;
    this.#templates = templates;
    const specialTokens = json.addedTokens.filter((token) => token.special);
    this.#specialIds = new Set(specialTokens.map((token) => token.id));
    for (const [token, id] of json.vocab) this.#tokens[id] = token;
    this.vocabSize = this.#tokens.length;
    this.bosTokenId = json.vocab.get(config.bos_token ?? "") ?? null;
    this.eosTokenId = json.vocab.get(config.eos_token ?? "") ?? null;

    this.#library = new LibraryTokenizer(json.library, {});
    const merger = createBpeMerger(json.vocab, json.merges);
    this.#library.model.bpe = (word) => merger.merge(word);
  }

  get hasChatTemplate(): boolean {
    return this.#templates.size > 0;
  }

  /**
   * `addSpecialTokens` (default true) adds what the tokenizer puts around a text. An explicit
   * add_bos_token or add_eos_token in tokenizer_config.json replaces the post-processor, as in
   * transformers' Llama tokenizer. Special tokens written out in the text become their ids.
   */
  encode(text: string, options: { addSpecialTokens?: boolean } = {}): number[] {
    const { addSpecialTokens = true } = options;
    const { add_bos_token: addBos, add_eos_token: addEos } = this.#config;
    const isExplicit = typeof addBos === "boolean" || typeof addEos === "boolean";
    const { ids } = this.#library.encode(text, {
      add_special_tokens: addSpecialTokens && !isExplicit,
    });
    if (!addSpecialTokens || !isExplicit) return ids;
    if (addBos && this.bosTokenId !== null) ids.unshift(this.bosTokenId);
    if (addEos && this.eosTokenId !== null) ids.push(this.eosTokenId);
    return ids;
  }

  /** Ids outside the vocabulary stand for no text: a model's padded rows may be sampled. */
  decode(tokenIds: readonly number[], options: { skipSpecialTokens?: boolean } = {}): string {
    const bytesOf = this.#bytesOf(options.skipSpecialTokens ?? false);
    return decodeTokens(tokenIds, bytesOf, this.#tokenBytes.strip);
  }

  bytesOf(tokenId: number): Uint8Array {
    return this.#bytesOf(false)(tokenId);
  }

  idToToken(tokenId: number): string | null {
    return this.#tokens[tokenId] ?? null;
  }

  isSpecial(tokenId: number): boolean {
    return this.#specialIds.has(tokenId);
  }

  applyChatTemplate(messages: ChatMessage[], options: ChatTemplateOptions = {}): string {
    return this.#templates.render(messages, options);
  }

  detokenizer(
    promptTokenIds: readonly number[],
    options: { skipSpecialTokens: boolean },
  ): IncrementalDetokenizer {
    const bytesOf = this.#bytesOf(options.skipSpecialTokens);
    return createDetokenizer(promptTokenIds, bytesOf, this.#tokenBytes.strip);
  }

  #bytesOf(skipSpecialTokens: boolean): (tokenId: number) => Buffer {
    return (tokenId) => {
      if (skipSpecialTokens && this.#specialIds.has(tokenId)) return NO_BYTES;
      const known = this.#bytes[tokenId];
      if (known !== undefined) return known;
      const token = this.#tokens[tokenId];
      if (token === undefined) return NO_BYTES;
      const bytes = this.#tokenBytes.bytesOf(token);
      this.#bytes[tokenId] = bytes;
      return bytes;
    };
  }
}
