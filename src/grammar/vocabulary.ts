import { type Tokenizer, writeByteLevel } from "../tokenizer/index.js";
import type { GrammarVocabulary } from "./protocol.js";

/**
 * The vocabulary as grammars see it: special tokens are no text, so no grammar allows them, and only
 * the end-of-sequence tokens may follow a complete output.
 */
export function grammarVocabulary(
  tokenizer: Tokenizer,
  { vocabSize, eosTokenIds }: { vocabSize: number; eosTokenIds: readonly number[] },
): GrammarVocabulary {
  const tokens = Array.from({ length: Math.min(tokenizer.vocabSize, vocabSize) }, (_, id) => {
    if (tokenizer.isSpecial(id) || eosTokenIds.includes(id)) return "";
    return writeByteLevel(tokenizer.bytesOf(id));
  });
  return { tokens, vocabSize, stopTokenIds: eosTokenIds };
}
