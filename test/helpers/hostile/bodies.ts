import { requestFields } from "../../../src/openai/index.js";
import type { Dice } from "./dice.js";
import { hostileGrammar, hostileRegex, hostileSchema, hostileTemplate } from "./grammars.js";

/** Bodies that are nearly right. Every field of the table of requests is drawn, new ones included. */

const generating = new Set([
  "/v1/completions",
  "/v1/chat/completions",
  "/v1/responses",
  "/v1/messages",
]);

export type Body = Record<string, unknown>;

/** Where bodies are sent: every route of the table, those that generate more often. */
export const routes: readonly string[] = Object.keys(requestFields).flatMap((route) =>
  Array<string>(generating.has(route) ? 3 : 1).fill(route),
);

const scalars: readonly unknown[] = [
  ...[null, true, false, 0, 1, 2, -1, 0.5, 1.5, -0.0, 7, 64, 1e9, -1e9, 2 ** 31, 2 ** 53],
  ...[1e300, -1e300, "", "x", "hot", "0", "1", "-1", "0.5", "true", "auto", "none", "text"],
  ...["nan", "Infinity", "1e999", "\u0000", "\ud800", "东京 🦊", "<|im_end|>", "__proto__"],
  ...["{{ 1 / 0 }}", "{% for %}", "x".repeat(500)],
];
const keys = [
  ...["role", "content", "type", "text", "include_usage", "0", "65", "99999", "__proto__"],
  ...["mood", "name", "function", "effort", "format", "json", "constructor"],
];

export function anyValue(dice: Dice, depth = 0): unknown {
  const kind = dice.below(depth > 3 ? 6 : 10);
  if (kind < 6) return dice.pick(scalars);
  if (kind < 8) return Array.from({ length: dice.below(4) }, () => anyValue(dice, depth + 1));
  const entries = Array.from({ length: dice.below(4) }, () => [
    dice.pick(keys),
    anyValue(dice, depth + 1),
  ]);
  return Object.fromEntries(entries);
}

const words = (dice: Dice) => dice.pick(["x", "once upon a time", "东京 🦊", "a b c d e f g"]);

function tool(dice: Dice): unknown {
  const parameters = dice.once(2) ? hostileSchema(dice) : { type: "object" };
  const name = dice.pick(["f", "get weather", "", "<tool_call>", "__proto__"]);
  // The shapes of chat, of responses and of messages.
  return {
    ...{ type: "function", function: { name, parameters, strict: dice.pick([true, null, 3]) } },
    ...(dice.once(2) ? { name, parameters, input_schema: parameters } : {}),
  };
}

function message(dice: Dice): unknown {
  const content = dice.pick<() => unknown>([
    () => words(dice),
    () => [{ type: "text", text: words(dice) }],
    () => [{ type: dice.pick(["image_url", "tool_use", "tool_result", "thinking", 5]), id: 1 }],
    () => anyValue(dice),
  ])();
  if (!dice.once(4))
    return { role: dice.pick(["user", "system", "assistant"]), content: words(dice) };
  const role = dice.pick(["user", "assistant", "system", "tool", "developer", "", 3]);
  const call = {
    id: "c",
    type: "function",
    function: { name: "f", arguments: dice.pick(["{}", "{", "[]", 5, ""]) },
  };
  return {
    role,
    content,
    ...(dice.once(6) ? { tool_calls: [dice.once(2) ? call : anyValue(dice)] } : {}),
  };
}

const formats: ((dice: Dice) => unknown)[] = [
  () => ({ type: "json_object" }),
  (dice) => ({ type: "json_schema", json_schema: { name: "x", schema: hostileSchema(dice) } }),
  (dice) => ({ type: "structural_tag", format: anyValue(dice) }),
  (dice) => ({ type: "json_schema", name: "x", schema: hostileSchema(dice) }),
  (dice) => anyValue(dice),
];

/** Values made for a field, of the kind that it takes but seldom of a size that it should. */
const ofField: Readonly<Record<string, (dice: Dice) => unknown>> = {
  prompt: (dice) =>
    dice.pick<unknown>([words(dice), ["x", words(dice)], [1, 2], [[1], [2, 3]], [[], [4095]]]),
  messages: (dice) =>
    Array.from({ length: dice.pick([1, 1, 1, 2, 2, 5, 100]) }, () => message(dice)),
  input: (dice) => (dice.once(2) ? words(dice) : [message(dice)]),
  system: words,
  instructions: words,
  tokens: (dice) => dice.pick([[1, 2, 3], [4096], [-1], Array(3000).fill(7)]),
  n: (dice) => dice.pick([0, -1, 2, 3, 2 ** 31, ...(dice.once(60) ? [128, 1024] : [1])]),
  max_tokens: (dice) => dice.pick([0, 1, 3, 20, -5, 1e9, 2 ** 53]),
  max_output_tokens: (dice) => dice.pick([0, 1, 3, 20, 1e9]),
  max_completion_tokens: (dice) => dice.pick([0, 1, 3, 20, 1e9]),
  logprobs: (dice) => dice.pick([true, 0, 5, 20, 21, 4096, 2 ** 31]),
  top_logprobs: (dice) => dice.pick([0, 5, 20, 21, -2, 2 ** 31]),
  prompt_logprobs: (dice) => dice.pick([0, 3, 20, 21, -1, -2, 1e9]),
  stop: (dice) =>
    dice.pick<unknown>([
      "a",
      ["e", "the"],
      "",
      Array(65).fill("x"),
      ["x".repeat(2000)],
      ["\ud800"],
    ]),
  logit_bias: (dice) => ({ [dice.below(5000)]: dice.pick([-100, 100, 1e9, "x"]), 7: 1 }),
  allowed_token_ids: (dice) => dice.pick([[1, 2], [], [4096], Array(5000).fill(3)]),
  bad_words: (dice) => dice.pick<unknown>([["the"], [""], Array(1025).fill("x"), [" "]]),
  tools: (dice) => Array.from({ length: dice.pick([0, 1, 1, 3, 30]) }, () => tool(dice)),
  tool_choice: (dice) =>
    dice.pick<unknown>([
      ...["auto", "none", "required", { type: "function", function: { name: "f" } }],
      ...[{ type: "tool", name: "f" }, { type: "any" }, { type: "function", name: "f" }],
    ]),
  response_format: (dice) => dice.pick(formats)(dice),
  text: (dice) => ({ format: dice.pick(formats)(dice) }),
  structured_outputs: (dice) => ({
    ...dice.pick<() => object>([
      () => ({ json: hostileSchema(dice) }),
      () => ({ regex: hostileRegex(dice) }),
      () => ({ grammar: hostileGrammar(dice) }),
      () => ({
        choice: dice.pick<unknown>([["a", "b"], [], [""], ["\ud800"], Array(5000).fill("x")]),
      }),
      () => ({ json_object: true, regex: "x" }),
      () => ({ structural_tag: anyValue(dice) }),
    ])(),
    ...(dice.once(6) ? { disable_any_whitespace: anyValue(dice), whitespace_pattern: "[ ]" } : {}),
  }),
  guided_json: hostileSchema,
  guided_regex: hostileRegex,
  guided_grammar: hostileGrammar,
  chat_template: hostileTemplate,
  chat_template_kwargs: (dice) => ({ [dice.pick(keys)]: anyValue(dice), tools: anyValue(dice) }),
  stream_options: (dice) => ({ include_usage: true, continuous_usage_stats: dice.once(2) }),
  truncate_prompt_tokens: (dice) => dice.pick([-1, 0, 1, 4, 1e6]),
  reasoning: (dice) => ({ effort: dice.pick<unknown>(["low", "none", "", 5, null]) }),
  kv_transfer_params: (dice) => ({ do_remote_prefill: true, remote_block_ids: anyValue(dice) }),
  request_id: (dice) => dice.pick(["a", "a", "x".repeat(10_000), "\r\nx: y", "é"]),
};

/** Of the fields that a route cannot do without, a sound value where those above seldom are. */
const sane: Readonly<Record<string, (dice: Dice) => unknown>> = {
  tokens: (dice) => (dice.once(3) ? ofField.tokens!(dice) : [1, 2, 3]),
  max_tokens: (dice) => (dice.once(8) ? ofField.max_tokens!(dice) : dice.below(6) + 1),
};

/** What each route cannot do without; most bodies have it. */
const needed: Readonly<Record<string, readonly string[]>> = {
  "/v1/completions": ["prompt"],
  "/v1/chat/completions": ["messages"],
  "/v1/responses": ["input"],
  "/v1/messages": ["messages", "max_tokens"],
  "/v1/messages/count_tokens": ["messages"],
  "/tokenize": ["prompt"],
  "/detokenize": ["tokens"],
};

/** Ends most answers soon, whatever was asked for. */
const limitOf: Readonly<Record<string, string>> = {
  "/v1/completions": "max_tokens",
  "/v1/chat/completions": "max_tokens",
  "/v1/responses": "max_output_tokens",
};

export function anyBody(dice: Dice, route: string): Body {
  const body: Body = {};
  const draw = (field: string) => {
    const make = dice.once(5) ? anyValue : (ofField[field] ?? anyValue);
    body[field] = make(dice);
  };
  const limit = limitOf[route];
  if (limit !== undefined && !dice.once(8)) body[limit] = dice.below(6) + 1;
  for (const field of needed[route]!) {
    if (dice.once(20)) continue;
    body[field] = route === "/tokenize" ? words(dice) : (sane[field] ?? ofField[field]!)(dice);
  }
  for (let count = dice.pick([0, 0, 1, 1, 2, 4]); count > 0; count--)
    draw(dice.pick(requestFields[route]!));
  if (dice.once(20))
    body[dice.pick(["__proto__", "constructor", "toString", "x"])] = anyValue(dice);
  return body;
}

/** Its JSON, now and then with a character cut, doubled or changed. */
export function anyText(dice: Dice, route: string): string {
  const text = JSON.stringify(anyBody(dice, route));
  if (!dice.once(8)) return text;
  const at = dice.below(text.length);
  const replacement = dice.pick(["", text[at]! + text[at]!, '"', "{", "\\", "\n", "9", "\u0000"]);
  return text.slice(0, at) + replacement + text.slice(at + 1);
}

/** A body whose nesting or size is the attack. */
export function hugeText(dice: Dice, route: string): string {
  const field = dice.pick(requestFields[route]!);
  const depth = dice.pick([2000, 100_000]);
  return dice.pick<() => string>([
    () => `{"${field}":${"[".repeat(depth)}1${"]".repeat(depth)}}`,
    () => `{"${field}":${'{"a":'.repeat(depth)}1${"}".repeat(depth)}}`,
    () => `{"${field}":${"[".repeat(depth)}`,
    () => JSON.stringify({ ...anyBody(dice, route), [field]: "word ".repeat(40_000) }),
    () => JSON.stringify({ ...anyBody(dice, route), [field]: Array(20_000).fill("x") }),
    () =>
      JSON.stringify({
        ...anyBody(dice, route),
        [field]: Array(20_000).fill({ role: "user", content: "x" }),
      }),
    () => JSON.stringify({ ...anyBody(dice, route), prompt: Array(50_000).fill(7) }),
    () => `{${Array.from({ length: 5000 }, (_, i) => `"key${i}":${i}`).join(",")}}`,
  ])();
}
