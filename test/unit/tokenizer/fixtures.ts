import { existsSync } from "node:fs";
import { resolve } from "node:path";
import { makeFolder } from "../../helpers/checkpoint.js";

/** Qwen2.5's tokenizer, outside the repository: tests of it explain themselves when it is absent. */
export const qwenFolder = resolve(import.meta.dirname, "../../../../shared/tokenizers/qwen2.5");

export function explainMissingQwen({ skip }: { skip(reason: string): void }): void {
  if (!existsSync(qwenFolder)) skip(`there is no Qwen2.5 tokenizer in ${qwenFolder}`);
}

/** Character that a byte-level vocabulary writes `byte` as, from GPT-2's own construction. */
export const characterOfByte: readonly string[] = (() => {
  const kept = [...range(33, 126), ...range(161, 172), ...range(174, 255)];
  const moved = range(0, 255).filter((byte) => !kept.includes(byte));
  return range(0, 255).map((byte) =>
    String.fromCharCode(kept.includes(byte) ? byte : 256 + moved.indexOf(byte)),
  );
})();

export function range(first: number, last: number): number[] {
  return Array.from({ length: last - first + 1 }, (_, i) => first + i);
}

export interface Merges {
  vocab: Record<string, number>;
  merges: [string, string][];
}

/** Vocabulary of the base tokens, then one token per merge. */
export function withMerges(base: readonly string[], merges: readonly string[]): Merges {
  const vocab: Record<string, number> = {};
  for (const token of base) vocab[token] = Object.keys(vocab).length;
  const pairs = merges.map((merge) => merge.split(" ") as [string, string]);
  for (const pair of pairs) vocab[pair.join("")] ??= Object.keys(vocab).length;
  return { vocab, merges: pairs };
}

const byteLevelMerges = withMerges(characterOfByte, [
  "h e",
  "l l",
  "he ll",
  "hell o",
  "Ġ w",
  "o r",
  "Ġw or",
  "l d",
  "Ġwor ld",
  "Ġ Ġ",
  "ĠĠ ĠĠ",
  "a a",
  "aa aa",
  // Two bytes of three, so that characters are cut across tokens.
  "ä ½",
  "Ł ĺ",
  "ð Ł",
  "1 2",
]);

const LLAMA3_PATTERN =
  "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";

const added = (id: number, content: string, special: boolean) => ({
  id,
  content,
  single_word: false,
  lstrip: false,
  rstrip: false,
  normalized: false,
  special,
});

export const byteLevel = {
  version: "1.0",
  added_tokens: [added(300, "<|end|>", true), added(301, "<tool x>", false)],
  normalizer: null,
  pre_tokenizer: { type: "ByteLevel", add_prefix_space: false, use_regex: true },
  post_processor: null,
  decoder: { type: "ByteLevel" },
  model: { type: "BPE", ...byteLevelMerges },
};

/** Words in the vocabulary are taken whole, and a text begins with BOS. */
export const llama3Like = {
  ...byteLevel,
  added_tokens: [added(300, "<|begin|>", true), added(301, "<|end|>", true)],
  pre_tokenizer: {
    type: "Sequence",
    pretokenizers: [
      { type: "Split", pattern: { Regex: LLAMA3_PATTERN }, behavior: "Isolated", invert: false },
      { type: "ByteLevel", add_prefix_space: false, use_regex: false },
    ],
  },
  post_processor: {
    type: "TemplateProcessing",
    single: [
      { SpecialToken: { id: "<|begin|>", type_id: 0 } },
      { Sequence: { id: "A", type_id: 0 } },
    ],
    pair: [],
    special_tokens: { "<|begin|>": { id: "<|begin|>", ids: [300], tokens: ["<|begin|>"] } },
  },
  model: {
    type: "BPE",
    ignore_merges: true,
    merges: byteLevelMerges.merges,
    vocab: { ...byteLevelMerges.vocab, zebra: 290 },
  },
};

const byteTokens = range(0, 255).map(
  (byte) => `<0x${byte.toString(16).toUpperCase().padStart(2, "0")}>`,
);

/** SentencePiece as a BPE: spaces as ▁, one in front of a text, unknown characters as bytes. */
export const llama2Like = {
  version: "1.0",
  added_tokens: [added(0, "<unk>", true), added(1, "<s>", true), added(2, "</s>", true)],
  normalizer: {
    type: "Sequence",
    normalizers: [
      { type: "Prepend", prepend: "▁" },
      { type: "Replace", pattern: { String: " " }, content: "▁" },
    ],
  },
  pre_tokenizer: null,
  post_processor: null,
  decoder: {
    type: "Sequence",
    decoders: [
      { type: "Replace", pattern: { String: "▁" }, content: " " },
      { type: "ByteFallback" },
      { type: "Fuse" },
      { type: "Strip", content: " ", start: 1, stop: 0 },
    ],
  },
  model: {
    type: "BPE",
    unk_token: "<unk>",
    fuse_unk: true,
    byte_fallback: true,
    ...withMerges(
      ["<unk>", "<s>", "</s>", ...byteTokens, ..."▁helowrdaé!"],
      [
        "▁ h",
        "e l",
        "l o",
        "▁h el",
        "▁hel lo",
        "▁ w",
        "o r",
        "l d",
        "▁w or",
        "▁wor ld",
        "▁ ▁",
        "a a",
      ],
    ),
  },
};

/** A model folder with this tokenizer. */
export function tokenizerFolder(
  tokenizer: unknown,
  config: unknown = {},
  files: Record<string, string> = {},
): string {
  return makeFolder({
    "tokenizer.json": JSON.stringify(tokenizer),
    "tokenizer_config.json": JSON.stringify(config),
    ...files,
  });
}

/** The code and message that a promise is rejected with. */
export async function rejection(
  promise: Promise<unknown>,
): Promise<{ code: string; message: string }> {
  try {
    await promise;
  } catch (error) {
    return error as { code: string; message: string };
  }
  throw new Error("it did not fail");
}

/** A small deterministic generator for fuzzing (mulberry32). */
export function randomIntegers(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) % below;
  };
}
