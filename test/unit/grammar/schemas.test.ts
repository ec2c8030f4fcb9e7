import { beforeAll, describe, expect, it } from "vitest";
import { numberRange } from "../../../src/grammar/number-range.js";
import { normalizeSchema } from "../../../src/grammar/schema-normal.js";
import { putStandIns, takeStandIns } from "../../../src/grammar/schema-stand-ins.js";
import { loadXGrammar } from "../../../src/grammar/xgrammar.js";
import { randomIntegers } from "../tokenizer/fixtures.js";

/** The grammars of JSON schemas, tried on texts without a model. */

const { library } = loadXGrammar();
const { Grammar, Testings } = library;

async function grammarOf(given: unknown) {
  const { schema, ...marks } = takeStandIns(normalizeSchema(given));
  const grammar = await Grammar.fromJSONSchema(JSON.stringify(schema), true, -1);
  return Grammar.fromEBNF(putStandIns(grammar.toString(), marks));
}

beforeAll(() => grammarOf({}));

const bound = (value: number | null, isExclusive = false) =>
  value === null ? null : { value, isExclusive };

describe("bounded numbers", () => {
  /** The language of a range as a regular expression, which has the same notation but for quotes. */
  const toRegex = (ebnf: string) =>
    new RegExp(
      `^(?:${ebnf.replace(/"([^"]*)"/g, (_, text: string) => text.replace(".", "\\."))})$`.replaceAll(
        " ",
        "",
      ),
    );

  it("integers: exactly those within the bounds", () => {
    const random = randomIntegers(3);
    const pick = (scale: number) => random(2 * scale) - scale;
    const cases: [number | null, number | null][] = [
      [0, 150],
      [5, null],
      [null, -10],
      [-9, 9],
      [0, 0],
      [null, null],
    ];
    for (let i = 0; i < 300; i++) {
      const scale = [20, 200, 3000, 100_000][i % 4]!;
      const [a, b] = [pick(scale), pick(scale)];
      cases.push([Math.min(a, b), i % 7 === 0 ? null : Math.max(a, b)]);
    }
    for (const [low, high] of cases) {
      const regex = toRegex(numberRange(bound(low), bound(high), true)!);
      const near = [low ?? 0, high ?? 0, 0, 10, 99, 1000].flatMap((at) =>
        Array.from({ length: 60 }, (_, i) => at + i - 30),
      );
      for (const value of near) {
        const isWithin = value >= (low ?? -Infinity) && value <= (high ?? Infinity);
        expect([low, high, value, regex.test(String(value))]).toEqual([low, high, value, isWithin]);
      }
      expect(regex.test("007")).toBe(false);
    }
    expect(numberRange(bound(5), bound(4), true)).toBeNull();
    expect(numberRange(bound(5, true), bound(6, true), true)).toBeNull();
    expect(toRegex(numberRange(bound(0.5), bound(2.5), true)!).source).toContain("1");
  });

  it("decimals: none out of bounds, and those within with as many digits as the bounds", () => {
    const random = randomIntegers(4);
    for (let i = 0; i < 400; i++) {
      const digits = random(3);
      const scale = 10 ** digits;
      const [a, b] = [random(400) - 200, random(400) - 200].map((value) => value / scale);
      const [low, high] = [Math.min(a!, b!), Math.max(a!, b!)];
      const [lowOut, highOut] = [random(3) === 0, random(3) === 0];
      const range = numberRange(bound(low, lowOut), bound(high, highOut), false);
      const regex = range === null ? /^$x/ : toRegex(range);
      for (let step = -25; step <= 25; step++) {
        for (const at of [low, high, 0]) {
          const text = (at + step / (10 * scale)).toFixed(digits + 1);
          const value = Number(text);
          const isWithin =
            (lowOut ? value > low : value >= low) && (highOut ? value < high : value <= high);
          if (text.startsWith("-0.0") && value === 0) continue;
          expect([low, high, lowOut, highOut, text, regex.test(text)]).toEqual([
            low,
            high,
            lowOut,
            highOut,
            text,
            isWithin,
          ]);
        }
      }
    }
  });
});

const cases: [object | boolean, string[], string[]][] = [
  [{ type: "integer", minimum: 0, maximum: 150 }, ["0", "99", "150"], ["151", "159", "-1"]],
  [{ type: "number", minimum: 0, maximum: 1 }, ["0", "0.25", "1", "1.0"], ["1.1", "-0.1", "2"]],
  [{ type: "integer", minimum: 5 }, ["5", "10", "123456789"], ["4", "-5"]],
  [{ type: "number", exclusiveMinimum: 0 }, ["0.001", "12"], ["0", "0.0", "-1"]],
  [
    {
      type: "object",
      properties: { a: { type: ["integer", "null"], minimum: 3 }, b: { $ref: "#/$defs/p" } },
      required: ["a", "b"],
      $defs: { p: { type: "number", maximum: 0.5, minimum: 0.25 } },
    },
    ['{"a": null, "b": 0.3}', '{"a": 3, "b": 0.5}'],
    ['{"a": 2, "b": 0.3}', '{"a": 3, "b": 0.51}'],
  ],
  [
    { type: "array", items: { type: "integer", minimum: 1, maximum: 3 }, minItems: 2, maxItems: 2 },
    ["[1, 3]", "[2,2]"],
    ["[1]", "[1, 4]", "[1, 2, 3]"],
  ],
  [
    {
      type: "object",
      properties: { a: { type: "integer" }, "": { type: "null" } },
      additionalProperties: { type: "string" },
    },
    ["{}", '{"a": 1, "": null}', '{"a": 1, "ab": "x", "b": "y"}', '{"é": "x"}'],
    ['{"a": "x"}', '{"": "x"}', '{"b": 1}'],
  ],
  [
    { type: "object", properties: { 'q"\\': { type: "null" } }, required: ['q"\\', "more"] },
    ['{"q\\"\\\\": null, "more": [1]}'],
    ['{"q"\\": null, "more": 1}', '{"q\\"\\\\": null}'],
  ],
  [
    { type: "string", pattern: '^("[^"]*"|\\n|[à-é東]{2}|a\\.b)$' },
    ['"\\"x\\""', '"\\n"', '"é東"', '"a.b"'],
    ['""x""', '"\n"', '"éx"', '"axb"', '"\\""'],
  ],
  [{ type: "string", pattern: "foo|^bar$" }, ['"foo"', '"bar"'], ['"foo', 'bar"', '"food"']],
  [{ type: "string", maxLength: 2 }, ['"a\\n"', '"\\u00e9🦊"'], ['"\n"', '"abc"', '"\\ud83e"']],
  [{ type: "string", format: "date" }, ['"2024-02-28"'], ['"2023-02-30"', '"2024-04-31"']],
  [{ minimum: 5 }, ["5", "6.5"], ["4", '"x"']],
  [{ type: "integer", enum: [1, "two"] }, ["1"], ['"two"']],
  [{ type: "string", anyOf: [{ minLength: 3 }, { maxLength: 1 }] }, ['"abc"', '""'], ['"ab"', "1"]],
  [{ enum: [1, "a", null, { b: 2 }] }, ["1", '"a"', "null", '{"b":2}'], ["2", '"b"']],
  [{ const: [1, 2] }, ["[1,2]"], ["[1]"]],
  [{ type: "string", minLength: 2, maxLength: 3 }, ['"ab"', '"éüx"'], ['"a"', '"abcd"']],
  [{ type: "string", format: "date" }, ['"2026-02-28"'], ['"2026-13-01"', '"today"']],
  [{ anyOf: [{ type: "boolean" }, { type: "array", items: false }] }, ["true"], ["1"]],
  [
    { type: "object", additionalProperties: { type: "integer" } },
    ['{"x": 1, "y": 2}', "{}"],
    ['{"x": "1"}'],
  ],
  [true, ["1", '{"a": [null]}'], ["", "tru"]],
];

describe("schemas", () => {
  it.each(cases)("%j", async (schema, good, bad) => {
    const grammar = await grammarOf(schema);
    const accepts = (text: string) => Testings.isGrammarAcceptString(grammar, text);
    for (const text of good) expect([text, await accepts(text)]).toEqual([text, true]);
    for (const text of bad) expect([text, await accepts(text)]).toEqual([text, false]);
  });
});
