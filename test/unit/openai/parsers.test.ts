import { describe, expect, it } from "vitest";
import {
  appendParsed,
  createTextParser,
  type ParsedText,
  type ParsingPlan,
  reasoningStart,
} from "../../../src/openai/index.js";
import { randomIntegers } from "../tokenizer/fixtures.js";

/** What the parser makes of pieces of text. */
function parse(plan: ParsingPlan, pieces: readonly string[]): ParsedText {
  let calls = 0;
  const parser = createTextParser(plan, () => `id${calls++}`);
  const all: ParsedText = { reasoning: "", content: "", toolCalls: [] };
  for (const piece of pieces) appendParsed(all, parser.push(piece));
  appendParsed(all, parser.finish());
  return all;
}

const plain: ParsingPlan = { reasoning: null, tools: { kind: "none" } };
const hermes: ParsingPlan = { ...plain, tools: { kind: "auto", parser: "hermes" } };
const llama: ParsingPlan = { ...plain, tools: { kind: "auto", parser: "llama3_json" } };
const required: ParsingPlan = { ...plain, tools: { kind: "required" } };
const named: ParsingPlan = { ...plain, tools: { kind: "named", name: "f" } };

const call = (index: number, name: string, text: string) => ({
  index,
  id: `id${index}`,
  name,
  arguments: text,
});
const tagged = (json: string) => `<tool_call>\n${json}\n</tool_call>`;

type Expected = Partial<ParsedText>;

const cases: [string, ParsingPlan, string, Expected][] = [
  ["no parser", plain, "<think>x</think><tool_call>", { content: "<think>x</think><tool_call>" }],
  [
    "hermes: a call after text",
    hermes,
    `Let me see.\n${tagged('{"name": "f", "arguments": {"a": [1, "}"], "b": {"c": "\\""}}}')}`,
    { content: "Let me see.\n", toolCalls: [call(0, "f", '{"a": [1, "}"], "b": {"c": "\\""}}')] },
  ],
  [
    "hermes: several calls, text after them dropped",
    hermes,
    `${tagged('{"name": "f", "arguments": {}}')}\n${tagged('{"arguments": {"x": 1}, "name": "g"}')} Done.`,
    { toolCalls: [call(0, "f", "{}"), call(1, "g", '{"x": 1}')] },
  ],
  [
    "hermes: text with angle brackets",
    hermes,
    "a < b <tool <tool_calls> <tool_cal",
    { content: "a < b <tool <tool_calls> <tool_cal" },
  ],
  [
    "hermes: what is no call stays text",
    hermes,
    `x ${tagged('{"city": "Rome"}')} y`,
    { content: `x ${tagged('{"city": "Rome"}')} y` },
  ],
  ["hermes: no JSON stays text", hermes, tagged("f(1)"), { content: tagged("f(1)") }],
  [
    "hermes: cut off before it is a call",
    hermes,
    '<tool_call>{"name": "f"',
    { content: '<tool_call>{"name": "f"' },
  ],
  [
    "hermes: cut off in the arguments",
    hermes,
    '<tool_call>{"name": "f", "arguments": {"a": "lo',
    { toolCalls: [call(0, "f", '{"a": "lo')] },
  ],
  [
    "hermes: a name that is no string",
    hermes,
    tagged('{"name": 5, "arguments": {}}'),
    { content: tagged('{"name": 5, "arguments": {}}') },
  ],
  [
    "llama: a call",
    llama,
    '{"name": "f", "parameters": {"q": "é🙂"}}',
    { toolCalls: [call(0, "f", '{"q": "é🙂"}')] },
  ],
  [
    "llama: a tag before, several calls",
    llama,
    '<|python_tag|>{"type": "function", "name": "f", "parameters": {}}; {"name": "g", "arguments": {"a": 1}}',
    { toolCalls: [call(0, "f", "{}"), call(1, "g", '{"a": 1}')] },
  ],
  ["llama: text", llama, 'Sure: {"name": "f"}', { content: 'Sure: {"name": "f"}' }],
  [
    "llama: an answer in JSON",
    llama,
    '{"name": "Bob", "age": 5} is he',
    { content: '{"name": "Bob", "age": 5} is he' },
  ],
  ["llama: the beginning of the tag", llama, "<|pyth", { content: "<|pyth" }],
  ["llama: an open object", llama, ' {"a', { content: ' {"a' }],
  [
    "required: an array of calls",
    required,
    '[ {"name": "f", "parameters": {"a": 1}} , {"name": "g", "parameters": {}} ]',
    { toolCalls: [call(0, "f", '{"a": 1}'), call(1, "g", "{}")] },
  ],
  ["named: all is arguments", named, '{"a": 1}', { toolCalls: [call(0, "f", '{"a": 1}')] }],
  ["named: nothing came", named, "", {}],
  [
    "reasoning that says so",
    { ...plain, reasoning: "asItSays" },
    "\n<think>\nHm, < 5?\n</think>\n\nYes.",
    { reasoning: "\nHm, < 5?\n", content: "\n\nYes." },
  ],
  ["none", { ...plain, reasoning: "asItSays" }, "Yes <think>", { content: "Yes <think>" }],
  ["perhaps some", { ...plain, reasoning: "asItSays" }, "<thi", { content: "<thi" }],
  [
    "reasoning that began in the prompt",
    { ...plain, reasoning: "reasoning" },
    "Hm.</think>Yes.</think>",
    { reasoning: "Hm.", content: "Yes.</think>" },
  ],
  [
    "reasoning that begins twice",
    { ...plain, reasoning: "reasoning" },
    "<think>Hm.</think>",
    { reasoning: "Hm." },
  ],
  [
    "reasoning without an end",
    { ...plain, reasoning: "reasoning" },
    "Hm. </thin",
    { reasoning: "Hm. </thin" },
  ],
  ["reasoning that is over", { ...plain, reasoning: "content" }, "Yes.", { content: "Yes." }],
  [
    "reasoning, then calls",
    { ...hermes, reasoning: "asItSays" },
    `<think><tool_call>no</think>So: ${tagged('{"name": "f", "arguments": {}}')}`,
    { reasoning: "<tool_call>no", content: "So: ", toolCalls: [call(0, "f", "{}")] },
  ],
  [
    "reasoning, then calls that must be",
    { ...required, reasoning: "reasoning" },
    'Hm.</think>[{"name": "f", "parameters": {}}]',
    { reasoning: "Hm.", toolCalls: [call(0, "f", "{}")] },
  ],
];

describe("taking text apart", () => {
  it.each(cases)("%s", (_, plan, text, expected) => {
    const whole = { reasoning: "", content: "", toolCalls: [], ...expected };
    expect(parse(plan, [text])).toEqual(whole);
    expect(parse(plan, [...text])).toEqual(whole);
    const random = randomIntegers(5);
    for (let trial = 0; trial < 50; trial++) {
      const pieces: string[] = [];
      for (let start = 0; start < text.length; ) {
        const end = start + 1 + random(12);
        pieces.push(text.slice(start, end));
        start = end;
      }
      expect(parse(plan, pieces)).toEqual(whole);
    }
  });

  it("knows from the prompt where the output begins", () => {
    expect(reasoningStart("qwen3", "…assistant\n")).toBe("asItSays");
    expect(reasoningStart("deepseek_r1", "…assistant\n")).toBe("reasoning");
    expect(reasoningStart("qwen3", "…assistant\n<think>\n")).toBe("reasoning");
    expect(reasoningStart("deepseek_r1", "…<think>\n\n</think>\n\n")).toBe("content");
  });
});
