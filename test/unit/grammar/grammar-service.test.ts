import { execa } from "execa";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { UcmError } from "../../../src/errors/index.js";
import { GrammarService, grammarVocabulary } from "../../../src/grammar/index.js";
import type { GrammarSpec, TokenMask } from "../../../src/messages/index.js";
import type { Tokenizer } from "../../../src/tokenizer/index.js";
import { loadByteTokenizer, specialIds, vocabSize } from "../server/byte-tokenizer.js";
import { builtGrammarThread } from "../server/harness.js";

const EOS = specialIds.imEnd;

let tokenizer: Tokenizer;
let service: GrammarService;
let nextSeqId = 0;

function makeService(timeouts = {}): GrammarService {
  return new GrammarService({
    makeVocabulary: () => grammarVocabulary(tokenizer, { vocabSize, eosTokenIds: [EOS] }),
    entry: builtGrammarThread,
    timeouts,
  });
}

beforeAll(async () => {
  tokenizer = await loadByteTokenizer();
  service = makeService();
});
afterAll(() => service.end());

/** The mask of a sequence that computed `length` tokens so far. */
async function maskOf(seqId: number, length: number): Promise<TokenMask> {
  const masks = await service.masks([{ seqId, end: length }]);
  return masks![0]!;
}

function allowedIn(mask: TokenMask): number[] {
  if ("error" in mask) throw UcmError.fromJSON(mask.error);
  const words = mask.mask;
  const ids = Array.from({ length: vocabSize }, (_, id) => id);
  return ids.filter((id) => ((words[id >> 5]! >>> (id & 31)) & 1) === 1);
}

/** Whether the grammar takes the text, byte by byte, and lets it end there. */
async function accepts(spec: GrammarSpec, text: string): Promise<boolean> {
  await service.prepare(spec);
  const seqId = nextSeqId++;
  service.open(seqId, { spec, afterTokenId: null }, 1);
  let length = 1;
  try {
    for (const token of [...Buffer.from(text), EOS]) {
      if (!allowedIn(await maskOf(seqId, length)).includes(token)) return false;
      service.advance(seqId, token);
      length++;
    }
    return true;
  } finally {
    service.close(seqId);
  }
}

const json = (schema: object | boolean): GrammarSpec => ({
  kind: "json",
  schema: JSON.stringify(schema),
  anyWhitespace: true,
});

const person = {
  type: "object",
  properties: { name: { type: "string" }, age: { type: "integer", minimum: 0, maximum: 99 } },
  required: ["name", "age"],
};

const cases: [string, GrammarSpec, string[], string[]][] = [
  [
    "a schema",
    json(person),
    ['{"name": "Zoë", "age": 7}', '{ "name" : "" , "age" : 99 }'],
    ['{"name": "a"}', '{"name": "a", "age": 100}', '{"name": "a", "age": 1, "x": 1}', "[]", ""],
  ],
  ["a schema of anything", json({}), ["1", "[null]", '{"a": {}}', '"x"'], ["x", "{"]],
  [
    "references",
    json({
      $ref: "#/$defs/tree",
      $defs: {
        tree: {
          type: "object",
          properties: { left: { $ref: "#/$defs/tree" }, value: { type: "number" } },
          required: ["value"],
        },
      },
    }),
    ['{"value": 1.5}', '{"left": {"value": 1}, "value": -2e3}'],
    ['{"left": {}, "value": 1}'],
  ],
  [
    "enum, const and pattern",
    json({
      type: "object",
      properties: {
        unit: { enum: ["C", "F", 5, null] },
        kind: { const: "x" },
        code: { type: "string", pattern: "^[A-Z]{2}[0-9]+$" },
      },
      required: ["unit", "kind", "code"],
    }),
    ['{"unit": "F", "kind": "x", "code": "AB12"}', '{"unit": null, "kind": "x", "code": "ZZ0"}'],
    ['{"unit": "K", "kind": "x", "code": "AB12"}', '{"unit": "C", "kind": "x", "code": "A12"}'],
  ],
  ["any object", { kind: "json_object" }, ["{}", '{"a": [1, {"b": null}]}'], ["[]", "1", "{"]],
  [
    "a regular expression, whole",
    { kind: "regex", pattern: "\\d{3}-(ab|cd)+é?" },
    ["123-ab", "123-cdabé"],
    ["12-ab", "1234-ab", "123-", "123-ab!"],
  ],
  [
    "choices, whatever they are",
    { kind: "choice", choices: ["yes", "no", 'a "b" \\ \n\t\b\f', "naïve", "\\b"] },
    ["yes", "no", 'a "b" \\ \n\t\b\f', "naïve", "\\b"],
    ["y", "yesno", "", "\b"],
  ],
  [
    "EBNF",
    { kind: "grammar", ebnf: 'root ::= "(" root ")" | [a-c]+ # nested\n' },
    ["a", "((cab))"],
    ["(a", "d", "()"],
  ],
  [
    "tags in free text",
    {
      kind: "structural_tag",
      tag: JSON.stringify({
        format: {
          type: "triggered_tags",
          triggers: ["<f="],
          tags: [
            {
              type: "tag",
              begin: "<f=add>",
              content: { type: "json_schema", json_schema: { type: "integer" } },
              end: "</f>",
            },
          ],
        },
      }),
    },
    ["free < text", "so <f=add>12</f> it is"],
    ["<f=sub>12</f>", "<f=add>x</f>"],
  ],
];

describe("grammars", () => {
  it.each(cases)("%s", async (_, spec, good, bad) => {
    for (const text of good) expect([text, await accepts(spec, text)]).toEqual([text, true]);
    for (const text of bad) expect([text, await accepts(spec, text)]).toEqual([text, false]);
  });

  it("never allow special tokens, and nothing but the end after the end", async () => {
    const spec = json({ type: "string" });
    await service.prepare(spec);
    service.open(-1, { spec, afterTokenId: null }, 3);
    service.advance(-1, 0x22);
    const inString = allowedIn(await maskOf(-1, 4));
    expect(inString.filter((id) => id > 255)).toEqual([]);
    expect(inString).toContain(0x61);
    service.advance(-1, 0x22);
    expect(allowedIn(await maskOf(-1, 5))).toEqual([EOS]);
    service.advance(-1, EOS);
    expect(allowedIn(await maskOf(-1, 6))).toEqual([EOS]);
    service.advance(-1, EOS);
    expect(allowedIn(await maskOf(-1, 7))).toEqual([EOS]);
    service.close(-1);
  });

  it("hold from one token on, where one is named", async () => {
    const spec: GrammarSpec = { kind: "choice", choices: ["b"] };
    await service.prepare(spec);
    service.open(-2, { spec, afterTokenId: 0x3b }, 2);
    expect(service.masks([{ seqId: -2, end: 2 }])).toBeNull();
    service.advance(-2, 0x61);
    expect(service.masks([{ seqId: -2, end: 3 }])).toBeNull();
    service.advance(-2, 0x3b);
    expect(allowedIn(await maskOf(-2, 4))).toEqual([0x62]);
    service.close(-2);
  });

  it("give no mask to a step that computes a part of the prompt, and the same mask again", async () => {
    const spec: GrammarSpec = { kind: "choice", choices: ["b"] };
    service.open(-3, { spec, afterTokenId: null }, 10);
    expect(service.masks([{ seqId: -3, end: 9 }])).toBeNull();
    expect(allowedIn(await maskOf(-3, 10))).toEqual([0x62]);
    expect(allowedIn(await maskOf(-3, 10))).toEqual([0x62]);
    service.close(-3);
    expect(service.masks([{ seqId: -3, end: 10 }])).toBeNull();
  });
});

const refused: [string, GrammarSpec, string][] = [
  [
    "an open group",
    { kind: "regex", pattern: "(a" },
    "Failed to transform regex into a grammar: Regex parsing error at position 3: The parenthesis is not closed.",
  ],
  ["lookahead", { kind: "regex", pattern: "(?=x)y" }, "Lookahead is not supported"],
  ["a bad grammar", { kind: "grammar", ebnf: "start ::= [a" }, "Invalid grammar specification: "],
  [
    "no root",
    { kind: "grammar", ebnf: 'start ::= "a"' },
    'root rule with name "root" is not found',
  ],
  ["an unknown type", json({ type: "text" }), 'Unsupported type "text"'],
  ["a reference to nothing", json({ $ref: "#/$defs/x" }), "Cannot find field $defs"],
  ["a reference elsewhere", json({ $ref: "http://x.test/y" }), "only references within it"],
  ["bounds that cross", json({ type: "integer", minimum: 5, maximum: 2 }), "minimum greater than"],
  [
    "what could not be enforced",
    json({ type: "object", properties: { a: { type: "array", uniqueItems: true } } }),
    "features not supported by xgrammar: uniqueItems at #/properties/a",
  ],
  [
    "a length that wraps around",
    json({ type: "string", minLength: 2 ** 32 + 1 }),
    "minLength must",
  ],
  [
    "one of several that may hold together",
    json({ oneOf: [{ type: "integer" }, { type: "number", minimum: 2 }] }),
    "oneOf with alternatives that an output may match together",
  ],
  [
    "keywords beside a reference",
    json({ $ref: "#/$defs/s", maxLength: 2, $defs: { s: { type: "string" } } }),
    "$ref beside maxLength",
  ],
  ["a constant of another type", json({ type: "string", const: 5 }), "const 5 is not of type"],
  ["an unknown format", json({ type: "string", format: "isbn" }), 'format "isbn" at #'],
  ["a bad pattern inside", json({ type: "string", pattern: "[" }), "Regex parsing error"],
  [
    "references in a circle",
    json({ $ref: "#/$defs/a", $defs: { a: { $ref: "#/$defs/b" }, b: { $ref: "#/$defs/a" } } }),
    "there is no output that matches it",
  ],
  ["a grammar without an end", { kind: "grammar", ebnf: "root ::= root" }, "there is no output"],
  ["a tag of no kind", { kind: "structural_tag", tag: '{"format": 5}' }, "Invalid structural tag"],
];

describe("the threads", () => {
  it("do not keep the process alive", async () => {
    const host = new URL("grammar-thread.js", builtGrammarThread).href;
    const program = `
      const { GrammarThread } = await import(${JSON.stringify(host)});
      const tokens = ["a", "b", ""];
      const vocabulary = { tokens, vocabSize: 3, stopTokenIds: [2] };
      const thread = new GrammarThread(vocabulary, new URL(${JSON.stringify(builtGrammarThread.href)}));
      const hold = setInterval(() => {}, 1000);
      await thread.compile({ key: "k", spec: { kind: "choice", choices: ["ab"] } });
      clearInterval(hold);
      console.log("compiled");`;
    const args = ["--input-type=module", "--eval", program];
    const { stdout, timedOut } = await execa("node", args, { timeout: 30_000, reject: false });
    expect({ stdout, timedOut }).toEqual({ stdout: "compiled", timedOut: false });
  });
});

describe("bad grammars", () => {
  it.each(refused)("%s", async (_, spec, message) => {
    const error = await service.prepare(spec).then(
      () => null,
      (thrown: UcmError) => thrown,
    );
    expect(error).toBeInstanceOf(UcmError);
    expect(error).toMatchObject({
      code: "UCM_ERR_INVALID_REQUEST",
      message: expect.stringContaining(message),
    });
    expect(error!.message).not.toMatch(/FATAL|\.cc|Aborted/);
  });

  it("keep schemas whose properties are named like keywords", async () => {
    const spec = json({
      type: "object",
      properties: { not: { type: "boolean" }, if: { type: "null" } },
      required: ["not", "if"],
    });
    expect(await accepts(spec, '{"not": true, "if": null}')).toBe(true);
  });

  it("do no harm to those after them, however many", async () => {
    const many = Array.from({ length: 130 }, (_, i) =>
      service.prepare({ kind: "regex", pattern: `(${"x".repeat(i)}` }),
    );
    const results = await Promise.allSettled(many);
    for (const result of results) {
      expect(String((result as PromiseRejectedResult).reason)).toContain("not closed");
    }
    expect(await accepts({ kind: "regex", pattern: "fine|good" }, "good")).toBe(true);
  });

  const nested = (depth: number): GrammarSpec => ({
    kind: "regex",
    pattern: `${"(".repeat(depth)}a${")".repeat(depth)}`,
  });

  it("that break the library are refused, and those after them are not", async () => {
    const specs = Array.from({ length: 6 }, (_, i): GrammarSpec[] => [
      nested(300 + i),
      { kind: "choice", choices: [`after ${i}`] },
    ]);
    const results = await Promise.allSettled(specs.flat().map((spec) => service.prepare(spec)));
    for (const [i, result] of results.entries()) {
      if (i % 2 === 1) expect(result.status).toBe("fulfilled");
      else {
        const { reason } = result as PromiseRejectedResult;
        expect(reason).toMatchObject({ code: "UCM_ERR_INVALID_REQUEST" });
        expect(reason.message).toContain("it is nested too deeply or too large to compile");
      }
    }
  });

  it("that break the library under a sequence leave the others their places", async () => {
    const spec: GrammarSpec = { kind: "choice", choices: ["abc"] };
    await service.prepare(spec);
    service.open(-20, { spec, afterTokenId: null }, 1);
    service.advance(-20, 0x61);
    service.open(-21, { spec: nested(300), afterTokenId: null }, 1);
    service.advance(-20, 0x62);
    expect(await maskOf(-21, 1)).toMatchObject({ error: { code: "UCM_ERR_INVALID_REQUEST" } });
    expect(allowedIn(await maskOf(-20, 3))).toEqual([0x63]);
    service.advance(-20, 0x63);
    expect(allowedIn(await maskOf(-20, 4))).toEqual([EOS]);
    for (const seqId of [-20, -21]) service.close(seqId);
  });

  it("wait no longer than their client, nor in a queue without end", async () => {
    const slow = makeService();
    const choices = (i: number): GrammarSpec => ({ kind: "choice", choices: [`choice ${i}`] });
    const gone = AbortSignal.abort(new Error("gone"));
    await expect(slow.prepare(choices(-1), gone)).rejects.toThrow("gone");
    const many = Array.from({ length: 300 }, (_, i) => slow.prepare(choices(i)));
    const refusals = (await Promise.allSettled(many)).filter(
      ({ status }) => status !== "fulfilled",
    );
    expect(refusals.length).toBe(300 - 256);
    expect(refusals[0]).toMatchObject({ reason: { code: "UCM_ERR_QUEUE_FULL" } });
    await slow.prepare(choices(1000));
    await slow.end();
  });

  it("fail the sequence that was not prepared, with the reason", async () => {
    service.open(-9, { spec: { kind: "regex", pattern: "(" }, afterTokenId: null }, 1);
    const mask = await maskOf(-9, 1);
    expect(mask).toMatchObject({ error: { code: "UCM_ERR_INVALID_REQUEST" } });
    service.close(-9);
  });

  it("are given up when they take too long, and the next one is served", async () => {
    const hasty = makeService({ checkMs: 1 });
    await expect(hasty.prepare(json(person))).rejects.toMatchObject({
      code: "UCM_ERR_INVALID_REQUEST",
      message: expect.stringContaining("it takes more than 0.001 s to compile"),
    });
    await hasty.end();
    const patient = makeService();
    await patient.prepare({ kind: "choice", choices: ["a"] });
    await patient.end();
  });
});
