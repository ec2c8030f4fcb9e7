import { describe, expect, it } from "vitest";
import { UcmError } from "../../../src/errors/index.js";
import {
  parseCountRequest,
  parseDetokenizeRequest,
  parseMessagesRequest,
  parseResponsesRequest,
  parseTokenizeRequest,
} from "../../../src/openai/index.js";

/** A field of a route beside the two of completions: read, or refused with a part of the message. */
interface Row {
  field: string;
  good: readonly (readonly [unknown, object])[];
  bad: readonly (readonly [unknown, string])[];
}

const problem = (type: string, field: string) => `{'type': '${type}', 'loc': ('body', '${field}'`;
const messages = [{ role: "user", content: "x" }];
const tool = { name: "f", description: "d", parameters: { type: "object" } };

const routes: [string, (body: object) => unknown, object, Row[]][] = [
  [
    "/v1/responses",
    (body) => parseResponsesRequest(body).chat,
    { input: "x" },
    [
      {
        field: "input",
        good: [
          ["hello", { messages: [{ role: "user", content: "hello" }] }],
          [[{ role: "user", content: "a" }], { messages: [{ role: "user", content: "a" }] }],
          [[{ type: "reasoning" }, { role: "user", content: "a" }], {}],
        ],
        bad: [
          [5, problem("input_type", "input")],
          [[{ type: "image" }], "Input items of type image are not supported."],
        ],
      },
      {
        field: "instructions",
        good: [["Be brief.", { messages: [{ role: "system" }, { role: "user" }] }]],
        bad: [[5, problem("string_type", "instructions")]],
      },
      {
        field: "max_output_tokens",
        good: [[7, { sampling: { max_tokens: 7 } }]],
        bad: [["many", problem("int_parsing", "max_output_tokens")]],
      },
      {
        field: "tools",
        good: [[[{ type: "function", ...tool }], { toolChoice: { kind: "auto" } }]],
        bad: [
          [[{ type: "web_search" }], "Tools of type web_search are not supported"],
          [5, problem("list_type", "tools")],
        ],
      },
      {
        field: "text",
        good: [
          [{ format: { type: "text" } }, {}],
          [{ format: { type: "json_object" } }, { sampling: { grammar: {} } }],
        ],
        bad: [[{ format: 5 }, "{'type': 'dict_type', 'loc': ('body', 'text', 'format')"]],
      },
      {
        field: "reasoning",
        good: [[{ effort: "low" }, { reasoning_effort: "low" }]],
        bad: [[{ effort: 5 }, "'loc': ('body', 'reasoning', 'effort')"]],
      },
      {
        field: "previous_response_id",
        good: [[null, {}]],
        bad: [["resp_1", "previous_response_id is not supported"]],
      },
      {
        field: "background",
        good: [[false, {}]],
        bad: [[true, "background mode is not supported"]],
      },
      { field: "truncation", good: [["disabled", {}]], bad: [["auto", "input is never cut"]] },
      { field: "store", good: [[true, {}]], bad: [["maybe", problem("bool_parsing", "store")]] },
      { field: "metadata", good: [[{ a: "b" }, {}]], bad: [[5, problem("dict_type", "metadata")]] },
      {
        field: "temperature",
        good: [[0.5, { sampling: { temperature: 0.5 } }]],
        bad: [["hot", problem("float_parsing", "temperature")]],
      },
    ],
  ],
  [
    "/v1/messages",
    parseMessagesRequest,
    { messages, max_tokens: 5 },
    [
      {
        field: "messages",
        good: [
          [messages, { messages }],
          [
            [{ role: "user", content: [{ type: "text", text: "a" }] }],
            { messages: [{ role: "user", content: "a" }] },
          ],
        ],
        bad: [
          [5, problem("list_type", "messages")],
          [[], "messages must hold at least one message"],
          [[{ role: "user", content: [{ type: "image" }] }], "only text is served"],
        ],
      },
      {
        field: "max_tokens",
        good: [[7, { sampling: { max_tokens: 7 } }]],
        bad: [
          [undefined, problem("missing", "max_tokens")],
          ["many", problem("int_parsing", "max_tokens")],
        ],
      },
      {
        field: "system",
        good: [
          ["s", { messages: [{ role: "system", content: "s" }, { role: "user" }] }],
          [[{ type: "text", text: "s" }], { messages: [{ role: "system", content: "s" }, {}] }],
        ],
        bad: [[5, problem("content_type", "system")]],
      },
      {
        field: "stop_sequences",
        good: [[["a"], { sampling: { stop: ["a"] } }]],
        bad: [["a", problem("list_type", "stop_sequences")]],
      },
      {
        field: "temperature",
        good: [[0, { sampling: { temperature: 0 } }]],
        bad: [[[], problem("float_type", "temperature")]],
      },
      {
        field: "top_p",
        good: [[0.5, { sampling: { top_p: 0.5 } }]],
        bad: [["x", problem("float_parsing", "top_p")]],
      },
      {
        field: "top_k",
        good: [[5, { sampling: { top_k: 5 } }]],
        bad: [[1.5, problem("int_from_float", "top_k")]],
      },
      {
        field: "stream",
        good: [[true, { stream: true }]],
        bad: [["maybe", problem("bool_parsing", "stream")]],
      },
      {
        field: "tools",
        good: [[[{ name: "f", input_schema: {} }], { toolChoice: { kind: "auto" } }]],
        bad: [[[{}], "{'type': 'missing', 'loc': ('body', 'tools', 0, 'name')"]],
      },
      {
        field: "tool_choice",
        good: [[{ type: "none" }, { toolChoice: { kind: "none" } }]],
        bad: [[{ type: "any" }, "When using `tool_choice`, `tools` must be set."]],
      },
      {
        field: "metadata",
        good: [[{ user_id: "u" }, {}]],
        bad: [[5, problem("dict_type", "metadata")]],
      },
    ],
  ],
  [
    "/v1/messages/count_tokens",
    parseCountRequest,
    { messages },
    [{ field: "system", good: [["s", {}]], bad: [[5, problem("content_type", "system")]] }],
  ],
  [
    "/tokenize",
    parseTokenizeRequest,
    { prompt: "x" },
    [
      {
        field: "prompt",
        good: [["", { source: { prompt: "" } }]],
        bad: [
          [5, problem("string_type", "prompt")],
          [undefined, problem("missing", "prompt")],
        ],
      },
      {
        field: "add_special_tokens",
        good: [
          [false, { addSpecialTokens: false }],
          [null, { addSpecialTokens: true }],
        ],
        bad: [["maybe", problem("bool_parsing", "add_special_tokens")]],
      },
      {
        field: "return_token_strs",
        good: [[true, { returnTokenStrings: true }]],
        bad: [[[], problem("bool_type", "return_token_strs")]],
      },
      {
        field: "model",
        good: [["m", { model: "m" }]],
        bad: [[5, problem("string_type", "model")]],
      },
      {
        field: "messages",
        good: [[messages, { addSpecialTokens: false, source: { chat: { messages } } }]],
        bad: [[[], "messages must hold at least one message"]],
      },
    ],
  ],
  [
    "/detokenize",
    parseDetokenizeRequest,
    { tokens: [1] },
    [
      {
        field: "tokens",
        good: [
          [[], { tokens: [] }],
          [[0, 7], { tokens: [0, 7] }],
        ],
        bad: [
          [[-1], problem("token_id", "tokens")],
          ["x", problem("list_type", "tokens")],
          [undefined, problem("missing", "tokens")],
        ],
      },
    ],
  ],
];

describe.each(routes)("fields of %s", (_path, parse, base, rows) => {
  it.each(rows)("$field", ({ field, good, bad }) => {
    for (const [given, expected] of good) {
      expect(parse({ ...base, [field]: given })).toMatchObject(expected);
    }
    for (const [given, message] of bad) {
      const call = () => parse({ ...base, [field]: given });
      expect(call).toThrow(UcmError);
      expect(call).toThrow(message);
    }
  });
});
