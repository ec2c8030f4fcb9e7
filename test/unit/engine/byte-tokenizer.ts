import type { IncrementalDetokenizer, Tokenizer } from "../../../src/tokenizer/types.js";

const NUM_BYTES = 256;

/**
 * Ids below 256 are bytes, the next ones the given pieces of text, and the one after them is a
 * special token "<eos>". Text comes out of it as from a byte-level BPE: whole characters only.
 */
export class ByteTokenizer implements Tokenizer {
  readonly vocabSize: number;
  readonly bosTokenId = null;
  readonly eosTokenId: number;
  readonly hasChatTemplate = false;
  readonly #pieces: readonly string[];

  constructor(pieces: readonly string[] = []) {
    this.#pieces = pieces;
    this.eosTokenId = NUM_BYTES + pieces.length;
    this.vocabSize = this.eosTokenId + 1;
  }

  encode(text: string): number[] {
    return [...Buffer.from(text)];
  }

  decode(tokenIds: readonly number[], options = { skipSpecialTokens: true }): string {
    return Buffer.concat(
      tokenIds.map((id) => this.bytesOf(id, options.skipSpecialTokens)),
    ).toString();
  }

  idToToken(tokenId: number): string | null {
    return tokenId < this.vocabSize ? this.bytesOf(tokenId, false).toString("latin1") : null;
  }

  isSpecial(tokenId: number): boolean {
    return tokenId === this.eosTokenId;
  }

  applyChatTemplate(): string {
    throw new Error("has no chat template");
  }

  detokenizer(
    _promptTokenIds: readonly number[],
    { skipSpecialTokens }: { skipSpecialTokens: boolean },
  ): IncrementalDetokenizer {
    const decoder = new TextDecoder();
    return {
      push: (id) => decoder.decode(this.bytesOf(id, skipSpecialTokens), { stream: true }),
      flush: () => decoder.decode(),
    };
  }

  bytesOf(tokenId: number, skipSpecialTokens = false): Buffer {
    if (tokenId < 0 || tokenId >= this.vocabSize) throw new RangeError(`no token ${tokenId}`);
    if (tokenId < NUM_BYTES) return Buffer.from([tokenId]);
    if (tokenId === this.eosTokenId) return Buffer.from(skipSpecialTokens ? "" : "<eos>");
    return Buffer.from(this.#pieces[tokenId - NUM_BYTES]!);
  }
}
