import type { Tokenizer } from "../tokenizer/types.js";
import { invalidField, isTokenId, type SamplingContext } from "./sampling-checks.js";

/**
 * The token sequences of `bad_words`, as vLLM makes them: each word as it starts a text and as it
 * follows a space, where the latter is another sequence of the same length.
 * @throws UcmError UCM_ERR_INVALID_REQUEST for an empty word, or when there is no tokenizer.
 */
export function encodeBadWords(
  words: readonly string[],
  model: Pick<SamplingContext, "vocabSize">,
  tokenizer: Tokenizer | null,
): number[][] {
  if (words.length === 0) return [];
  if (tokenizer === null) {
    throw invalidField(
      "bad_words needs a tokenizer, which --skip-tokenizer-init leaves out. Use logit_bias.",
      "bad_words",
    );
  }
  const sequences: number[][] = [];
  for (const word of words) {
    const bare = word.trimStart();
    if (bare === "") throw invalidField("bad_words cannot contain an empty string.", "bad_words");
    const atStart = tokenizer.encode(bare, { addSpecialTokens: false });
    const afterSpace = tokenizer.encode(` ${bare}`, { addSpecialTokens: false });
    sequences.push(atStart);
    const isOther = afterSpace[0] !== atStart[0] && afterSpace.length === atStart.length;
    if (isOther) sequences.push(afterSpace);
  }
  const unknown = sequences.flat().filter((id) => !isTokenId(id, model));
  if (unknown.length === 0) return sequences;
  throw invalidField(
    `Model vocabulary size is ${model.vocabSize}, but the following tokens were specified as bad: [${unknown.join(", ")}]. All token id values should be integers satisfying: 0 <= token_id < ${model.vocabSize}.`,
    "bad_words",
  );
}
