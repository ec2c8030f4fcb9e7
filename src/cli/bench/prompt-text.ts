import type { Tokenizer } from "../../tokenizer/index.js";
import type { RandomSource } from "./random-source.js";

/** Token ids that stand for text of their own. */
export function ordinaryTokens(tokenizer: Tokenizer): number[] {
  const ids = Array.from({ length: tokenizer.vocabSize }, (_, id) => id);
  return ids.filter((id) => !tokenizer.isSpecial(id));
}

export function drawTokens(
  count: number,
  allowed: readonly number[],
  random: RandomSource,
): number[] {
  return Array.from({ length: count }, () => allowed[random.integer(0, allowed.length - 1)]!);
}

const MAX_TRIES = 10;

/**
 * Text that encodes to as many tokens as given: what the tokens decode to may encode to fewer or more,
 * so it is cut or filled up and tried again, as vLLM does.
 */
export function textOfLength(
  tokenIds: readonly number[],
  tokenizer: Tokenizer,
  allowed: readonly number[],
  random: RandomSource,
): { prompt: string; promptLen: number } {
  const wanted = tokenIds.length;
  let current = [...tokenIds];
  for (let tries = 0; ; tries++) {
    const prompt = tokenizer.decode(current);
    const encoded = tokenizer.encode(prompt, { addSpecialTokens: false });
    if (encoded.length === wanted || tries === MAX_TRIES) {
      return { prompt, promptLen: encoded.length };
    }
    current =
      encoded.length > wanted
        ? encoded.slice(0, wanted)
        : [...encoded, ...drawTokens(wanted - encoded.length, allowed, random)];
  }
}
