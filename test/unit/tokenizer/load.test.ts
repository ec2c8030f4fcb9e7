import { describe, expect, it } from "vitest";
import { loadTokenizer } from "../../../src/tokenizer/index.js";
import { makeFolder } from "../../helpers/checkpoint.js";
import { byteLevel, llama2Like, rejection, tokenizerFolder } from "./fixtures.js";

const failing = (folder: string) => rejection(loadTokenizer(folder));

describe("a folder that cannot be used", () => {
  it("says where a tokenizer is missing and what to do", async () => {
    const folder = makeFolder({ "config.json": "{}" });
    const { code, message } = await failing(folder);
    expect(code).toBe("UCM_ERR_TOKENIZER");
    expect(message).toContain(folder);
    expect(message).toContain("--skip-tokenizer-init");
    expect(message).toContain("--tokenizer");
    expect((await failing("/no/such/folder")).message).toContain(
      "no tokenizer.json in /no/such/folder",
    );
  });

  const broken: [what: string, tokenizer: unknown, words: RegExp][] = [
    [
      "an unsupported model",
      { ...byteLevel, model: { type: "Unigram", vocab: [] } },
      /model type is Unigram; only BPE/,
    ],
    ["no model", { added_tokens: [] }, /model type is missing/],
    ["a list", [], /Cannot use .*tokenizer\.json/],
    [
      "an unsupported decoder",
      { ...byteLevel, decoder: { type: "WordPiece", prefix: "##" } },
      /decoder type WordPiece is not supported/,
    ],
    ["no decoder", { ...byteLevel, decoder: null }, /no decoder/],
    [
      "a decoder with unknown fields",
      { ...byteLevel, decoder: { type: "Replace", pattern: { Regex: "x" }, content: "" } },
      /Replace decoder/,
    ],
    [
      "an unknown pre-tokenizer",
      { ...byteLevel, pre_tokenizer: { type: "Telepathy" } },
      /Unknown PreTokenizer type: Telepathy/,
    ],
    [
      "an unsupported split",
      {
        ...byteLevel,
        pre_tokenizer: { type: "Split", pattern: { String: " " }, behavior: "MergedWithPrevious" },
      },
      /MergedWithPrevious/,
    ],
    [
      "a merge of unknown tokens",
      { ...byteLevel, model: { ...byteLevel.model, merges: ["q zz"] } },
      /merge 0 \("q" \+ "zz"\).*"zz"/,
    ],
    [
      "a merge that is no pair",
      { ...byteLevel, model: { ...byteLevel.model, merges: ["qz"] } },
      /not a pair/,
    ],
    [
      "an id that is no number",
      { ...byteLevel, model: { ...byteLevel.model, vocab: { a: "b" }, merges: [] } },
      /token "a" has the id b/,
    ],
    [
      "word suffixes",
      { ...byteLevel, model: { ...byteLevel.model, end_of_word_suffix: "</w>" } },
      /end_of_word_suffix/,
    ],
  ];
  for (const [what, tokenizer, words] of broken) {
    it(`refuses ${what} in one line`, async () => {
      const { code, message } = await failing(tokenizerFolder(tokenizer));
      expect(code).toBe("UCM_ERR_TOKENIZER");
      expect(message).toMatch(words);
      expect(message).not.toContain("\n");
    });
  }

  it("names the file that is not JSON", async () => {
    const first = await failing(makeFolder({ "tokenizer.json": "{" }));
    expect(first.message).toMatch(/tokenizer\.json: it is not valid JSON/);
    const second = await failing(
      makeFolder({ "tokenizer.json": "{}", "tokenizer_config.json": "]" }),
    );
    expect(second.message).toMatch(/tokenizer_config\.json: it is not valid JSON/);
    const third = await failing(tokenizerFolder(byteLevel, { chat_template: 7 }));
    expect(third.message).toMatch(/tokenizer_config\.json: chat_template/);
  });

  it("names a chat template with a syntax error", async () => {
    const { code, message } = await failing(
      tokenizerFolder(byteLevel, { chat_template: "{% if %}" }),
    );
    expect(code).toBe("UCM_ERR_TOKENIZER");
    expect(message).toMatch(/chat template has a syntax error/);
  });
});

describe("special tokens", () => {
  it("reads them as text or object, and needs no tokenizer_config.json", async () => {
    const config = { bos_token: { content: "<s>", lstrip: false }, eos_token: "</s>" };
    const tokenizer = await loadTokenizer(tokenizerFolder(llama2Like, config));
    expect([tokenizer.bosTokenId, tokenizer.eosTokenId]).toEqual([1, 2]);
    const bare = await loadTokenizer(makeFolder({ "tokenizer.json": JSON.stringify(llama2Like) }));
    expect([bare.bosTokenId, bare.eosTokenId]).toEqual([null, null]);
  });

  it("adds those that only tokenizer_config.json knows", async () => {
    const config = {
      eos_token: "hello",
      added_tokens_decoder: {
        "310": { content: "<|new|>", special: true },
        "311": { content: "<plain>", special: false },
      },
    };
    const tokenizer = await loadTokenizer(tokenizerFolder(byteLevel, config));
    const hello = byteLevel.model.vocab.hello!;
    expect(tokenizer.encode("<|new|><plain>hello")).toEqual([310, 311, hello]);
    expect([310, 311, hello].map((id) => tokenizer.isSpecial(id))).toEqual([true, false, true]);
    expect(tokenizer.vocabSize).toBe(312);
  });
});
