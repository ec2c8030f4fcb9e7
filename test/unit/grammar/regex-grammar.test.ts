import { describe, expect, it } from "vitest";
import { regexGrammar } from "../../../src/grammar/regex-grammar.js";
import { loadXGrammar } from "../../../src/grammar/xgrammar.js";

const { Grammar, Testings } = loadXGrammar().library;

/** Patterns, and texts to be judged as JavaScript does. */
const cases: [string, string[]][] = [
  ["a|bc|", ["a", "bc", "", "b", "abc"]],
  ["^(ab?)+$", ["a", "abaab", "", "b"]],
  ["[a-cx-]{2}", ["a-", "xb", "d-", "abc"]],
  ["[^a-c\\d]+", ["xyz", "é🦊", "a", "x1", ""]],
  ["\\d{2,3}?\\.\\w*", ["12.", "123.a_9", "1.", "1234.x"]],
  ["(?:x(?<n>y|z)){0,2}", ["", "xy", "xyxz", "x", "xyxyxy"]],
  ["[à-é]\\u0041\\x42[\\]\\\\]", ["àAB]", "éAB\\", "aAB]", "êAB]"]],
  ['"\\n\\t\\\\/', ['"\n\t\\/', '"n\t\\/']],
  ["a{3}b{1,}", ["aaab", "aaabb", "aab", "aaa"]],
  ["[\\s\\S][\\w-]", ["\n-", "x_", "x "]],
];

describe("regular expressions", () => {
  it.each(cases)(
    "%s means what it means in JavaScript, plain and within JSON",
    async (pattern, texts) => {
      const plain = await Grammar.fromEBNF(`root ::= ${regexGrammar(pattern, false)}`);
      const inJson = await Grammar.fromEBNF(`root ::= ${regexGrammar(pattern, true)}`);
      for (const text of texts) {
        const matches = new RegExp(`^(?:${pattern})$`, "u").test(text);
        const written = JSON.stringify(text).slice(1, -1);
        expect([text, await Testings.isGrammarAcceptString(plain, text)]).toEqual([text, matches]);
        expect([text, await Testings.isGrammarAcceptString(inJson, written)]).toEqual([
          text,
          matches,
        ]);
      }
    },
  );

  const refused = [
    ...["(a", "a)", "[a", "a**", "*", "a{2,1}", "a{x}", "(?=a)b", "(?<!a)b", "\\1", "\\bx", "a^b"],
    ...["\\p{L}", "[z-a]", "[^é]", "[\\u4e00-\\u9fff]", "\ud800", "(".repeat(60), "\\", "[]"],
  ];
  it.each(refused)("%s is refused", (pattern) => {
    expect(() => regexGrammar(pattern, true)).toThrow();
  });
});
