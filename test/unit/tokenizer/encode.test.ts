import { readFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, beforeEach, describe, expect, it } from "vitest";
import { loadTokenizer, type Tokenizer } from "../../../src/tokenizer/index.js";
import { cpuMsOf } from "../../helpers/cpu-time.js";
import {
  byteLevel,
  characterOfByte,
  explainMissingQwen,
  llama2Like,
  llama3Like,
  qwenFolder,
  tokenizerFolder,
} from "./fixtures.js";

/** Texts that break tokenizers. */
const texts = [
  "Hello world",
  "hello world hello  world   hello",
  "",
  " ",
  "\n\n\n \t \r\n\r\n",
  "trailing spaces   ",
  "def f(x):\n    return x ** 2  # ok\n\n\nclass A:\n\tpass\n",
  "#include <stdio.h>\r\nint main(void) { return 0; }\r\n",
  "12345678901234567890 3.14159 1e-9 ²³ ½",
  "I'm you're he'd WE'LL they'Ve ſ'ſ",
  "你好，世界！日本語のテキスト한국어 각 가",
  "👩‍👩‍👧‍👦 🏳️‍🌈 👍🏽 🇨🇭",
  "e\u0301 a\u0308\u0323 n\u0303 \u1e0b\u0323",
  "مرحبا بالعالم שלום עולם नमस्ते ไทย",
  "\u0000\u0001\u0007\u001b\u007f\u0085\u00a0\u200b\u2028\ufeff",
  "𝒳𝔘 𐍈 \u{10ffff}",
  "x".repeat(3000),
  "supercalifragilisticexpialidocious".repeat(40),
  "<|im_start|>user\nhi<|im_end|>\n<tool_call>{}</tool_call>",
];

/** What UTF-8 keeps of a JavaScript string: lone surrogates become U+FFFD. */
const wellFormed = (text: string) => Buffer.from(text, "utf8").toString("utf8");

/** Byte-pair encoding of one word as the paper has it: the best pair of all, again and again. */
function slowBpe(word: string, ranks: ReadonlyMap<string, number>): string[] {
  let pieces = Array.from(Buffer.from(word), (byte) => characterOfByte[byte]!);
  for (;;) {
    const candidates = pieces
      .slice(1)
      .map((right, i) => ranks.get(`${pieces[i]} ${right}`) ?? Infinity);
    const best = Math.min(...candidates);
    if (best === Infinity) return pieces;
    const at = candidates.indexOf(best);
    pieces = [...pieces.slice(0, at), pieces[at]! + pieces[at + 1]!, ...pieces.slice(at + 2)];
  }
}

describe("a byte-level BPE", () => {
  it("merges by rank, leftmost first", async () => {
    const tokenizer = await loadTokenizer(tokenizerFolder(byteLevel));
    const { vocab } = byteLevel.model;
    const ids = (...tokens: string[]) => tokens.map((token) => vocab[token]);
    expect(tokenizer.encode("hello world")).toEqual(ids("hello", "Ġworld"));
    expect(tokenizer.encode("aaaaa")).toEqual(ids("aaaa", "a"));
    expect(tokenizer.encode("aaa")).toEqual(ids("aa", "a"));
    expect(tokenizer.encode("    x")).toEqual(ids("ĠĠ", "Ġ", "Ġ", "x"));
    expect(tokenizer.encode("你")).toEqual(ids("ä½", "ł"));
  });

  it("takes added tokens out of the text", async () => {
    const tokenizer = await loadTokenizer(tokenizerFolder(byteLevel));
    const { vocab } = byteLevel.model;
    expect(tokenizer.encode("hello<|end|><tool x>hello")).toEqual([
      vocab.hello,
      300,
      301,
      vocab.hello,
    ]);
    expect(tokenizer.decode([vocab.hello!, 300, 301])).toBe("hello<|end|><tool x>");
    expect(tokenizer.decode([vocab.hello!, 300, 301], { skipSpecialTokens: true })).toBe(
      "hello<tool x>",
    );
    expect(tokenizer.vocabSize).toBe(302);
  });

  it("comes back to the same text", async () => {
    const tokenizer = await loadTokenizer(tokenizerFolder(byteLevel));
    for (const text of [...texts, "\ud800 lone \udc00", "\ud83d"]) {
      expect(tokenizer.decode(tokenizer.encode(text))).toBe(wellFormed(text));
    }
  });

  it("agrees with the merges done one at a time", async () => {
    const tokenizer = await loadTokenizer(tokenizerFolder(byteLevel));
    const ranks = new Map(byteLevel.model.merges.map((pair, rank) => [pair.join(" "), rank]));
    for (const word of ["hellohelloworld", "aaaaaaaaaaaaahella", "llllllheo", "你好你", "👩👩"]) {
      const ids = slowBpe(word, ranks).map((piece) => byteLevel.model.vocab[piece]);
      expect(tokenizer.encode(word)).toEqual(ids);
    }
  });

  it("has no text for ids outside the vocabulary", async () => {
    const tokenizer = await loadTokenizer(tokenizerFolder(byteLevel));
    expect(tokenizer.decode([104, 100_000, -1, 299])).toBe(tokenizer.decode([104]));
    expect(tokenizer.idToToken(25_000)).toBeNull();
    expect(tokenizer.idToToken(300)).toBe("<|end|>");
    expect([tokenizer.isSpecial(300), tokenizer.isSpecial(301), tokenizer.isSpecial(5)]).toEqual([
      true,
      false,
      false,
    ]);
  });
});

describe("a Llama-3-like tokenizer", () => {
  it("puts BOS in front, takes known words whole and cuts digits in threes", async () => {
    const config = { bos_token: "<|begin|>", eos_token: { content: "<|end|>" } };
    const tokenizer = await loadTokenizer(tokenizerFolder(llama3Like, config));
    const { vocab } = llama3Like.model;
    expect([tokenizer.bosTokenId, tokenizer.eosTokenId]).toEqual([300, 301]);
    expect(tokenizer.encode("zebra")).toEqual([300, vocab.zebra]);
    expect(tokenizer.encode("zebra", { addSpecialTokens: false })).toEqual([vocab.zebra]);
    expect(tokenizer.encode("12121", { addSpecialTokens: false })).toEqual(
      ["12", "1", "2", "1"].map((token) => (vocab as Record<string, number>)[token]),
    );
    for (const text of texts) {
      expect(tokenizer.decode(tokenizer.encode(text), { skipSpecialTokens: true })).toBe(text);
    }
  });

  it("lets add_bos_token overrule the post-processor", async () => {
    const config = {
      bos_token: "<|begin|>",
      eos_token: "<|end|>",
      add_bos_token: false,
      add_eos_token: true,
    };
    const tokenizer = await loadTokenizer(tokenizerFolder(llama3Like, config));
    expect(tokenizer.encode("zebra")).toEqual([290, 301]);
    expect(tokenizer.encode("zebra", { addSpecialTokens: false })).toEqual([290]);
  });
});

describe("a Llama-2-like tokenizer", () => {
  const config = { bos_token: "<s>", eos_token: "</s>", unk_token: "<unk>", add_bos_token: true };

  it("marks spaces and falls back to bytes", async () => {
    const tokenizer = await loadTokenizer(tokenizerFolder(llama2Like, config));
    const tokensOf = (text: string) => tokenizer.encode(text).map((id) => tokenizer.idToToken(id));
    expect(tokensOf("hello world!")).toEqual(["<s>", "▁hello", "▁world", "!"]);
    expect(tokensOf("h好")).toEqual(["<s>", "▁h", "<0xE5>", "<0xA5>", "<0xBD>"]);
    expect(tokensOf("  aé")).toEqual(["<s>", "▁▁", "▁", "a", "é"]);
    expect(tokensOf("hello</s>hello")).toEqual(["<s>", "▁hello", "</s>", "▁hello"]);
  });

  it("comes back to the same text", async () => {
    const tokenizer = await loadTokenizer(tokenizerFolder(llama2Like, config));
    for (const text of texts) {
      expect(tokenizer.decode(tokenizer.encode(text), { skipSpecialTokens: true })).toBe(text);
    }
  });

  it("splits at spaces when Metaspace says so", async () => {
    const spaced = (split: boolean) => ({
      ...llama2Like,
      normalizer: null,
      pre_tokenizer: { type: "Metaspace", replacement: "▁", prepend_scheme: "always", split },
    });
    const tokensOf = async (split: boolean) => {
      const tokenizer = await loadTokenizer(tokenizerFolder(spaced(split)));
      return tokenizer.encode("hello   world").map((id) => tokenizer.idToToken(id));
    };
    expect(await tokensOf(false)).toEqual(["▁hello", "▁▁", "▁world"]);
    expect(await tokensOf(true)).toEqual(["▁hello", "▁", "▁", "▁world"]);
  });
});

describe("long words", () => {
  // Quadratic merging needs minutes for these; the bound is far above what they take.
  const words = {
    "one character": "a".repeat(250_000),
    spaces: `${" ".repeat(250_000)}x`,
    "no spaces": "hello".repeat(50_000),
    ideographs: "你好世界".repeat(25_000),
    "combining marks": `e${"\u0301".repeat(100_000)}`,
  };
  for (const [name, text] of Object.entries(words)) {
    it(`takes ${name} in linear time`, async () => {
      for (const fixture of [byteLevel, llama2Like]) {
        const tokenizer = await loadTokenizer(tokenizerFolder(fixture));
        let decoded = "";
        const spentMs = cpuMsOf(() => {
          decoded = tokenizer.decode(tokenizer.encode(text));
        });
        expect(decoded).toBe(text);
        expect(spentMs).toBeLessThan(8000);
      }
    });
  }
});

describe("Qwen2.5's tokenizer", () => {
  beforeEach(explainMissingQwen);
  let tokenizer: Tokenizer;
  beforeAll(async () => {
    tokenizer = await loadTokenizer(qwenFolder).catch(() => undefined as never);
  });

  /** As Hugging Face tokenizers 0.23.2 (Rust) encodes them. */
  const known: [string, number[]][] = [
    ["Hello world", [9707, 1879]],
    [
      "The quick brown fox's 12345 jumps.\r\n\r\n\tEnd",
      [785, 3974, 13876, 38835, 594, 220, 16, 17, 18, 19, 20, 34208, 17825, 38407],
    ],
    ["你好，世界！", [108386, 3837, 99489, 6313]],
    ["👩‍👩‍👧‍👦 family", [145233, 378, 235, 145233, 378, 235, 145665, 378, 235, 145988, 2997]],
    ["e\u0301 café", [963, 51950]],
    ["مرحبا بالعالم", [124122, 29825, 124671, 124476, 129634]],
    ["def f(x):\n    return x ** 2\n", [750, 282, 2075, 982, 262, 470, 856, 3070, 220, 17, 198]],
    ["<|im_start|>user\nhi<|im_end|>\n", [151644, 872, 198, 6023, 151645, 198]],
    [" \ufeff\u0085\u2003x", [75780, 126, 227, 378, 225, 87]],
  ];

  it("gives the ids of the reference implementation", () => {
    for (const [text, ids] of known) expect(tokenizer.encode(text)).toEqual(ids);
    expect(tokenizer.vocabSize).toBe(151_665);
    expect([tokenizer.bosTokenId, tokenizer.eosTokenId]).toEqual([null, 151_645]);
    expect(tokenizer.isSpecial(151_645)).toBe(true);
    expect(tokenizer.isSpecial(151_657)).toBe(false);
  });

  it("agrees with its own merges done one at a time", () => {
    const json = JSON.parse(readFileSync(join(qwenFolder, "tokenizer.json"), "utf8"));
    const ranks = new Map<string, number>(
      json.model.merges.map((merge: string | string[], rank: number) => [
        typeof merge === "string" ? merge : merge.join(" "),
        rank,
      ]),
    );
    const words = [
      "Hello",
      " world",
      " supercalifragilistic",
      "你好世界",
      "ab".repeat(60),
      "=".repeat(90),
      "Ωμέγα",
    ];
    for (const word of words) {
      const ids = slowBpe(word, ranks).map((piece) => json.model.vocab[piece]);
      expect(tokenizer.encode(word)).toEqual(ids);
    }
  });

  it("comes back to the same text, in NFC", () => {
    for (const text of [...texts, "\ud800 lone \udc00"]) {
      const ids = tokenizer.encode(text);
      expect(tokenizer.decode(ids)).toBe(wellFormed(text).normalize("NFC"));
      expect(ids.every((id) => id < tokenizer.vocabSize)).toBe(true);
    }
  });

  it("encodes 100 000 characters of anything at once", () => {
    for (const text of [
      "word and word. ".repeat(6667),
      "好".repeat(100_000),
      "x".repeat(100_000),
    ]) {
      expect(cpuMsOf(() => tokenizer.encode(text))).toBeLessThan(2000);
    }
  });
});
