import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Harness, type JsonObject, until } from "./harness.js";

let server: Harness;

beforeAll(async () => {
  server = await Harness.start({
    options: { bodyLimitBytes: 1_000_000 },
    model: { maxModelLen: 64 },
  });
});
afterAll(() => server.close());

/** xorshift32: the same bodies on every run. */
class Dice {
  #state: number;

  constructor(seed: number) {
    this.#state = seed;
  }

  below(limit: number): number {
    this.#state ^= this.#state << 13;
    this.#state ^= this.#state >>> 17;
    this.#state ^= this.#state << 5;
    return (this.#state >>> 0) % limit;
  }

  pick<T>(items: readonly T[]): T {
    return items[this.below(items.length)]!;
  }
}

const scalars: readonly unknown[] = [
  null,
  true,
  false,
  0,
  1,
  2,
  -1,
  0.5,
  1.5,
  -0.0,
  7,
  64,
  1e9,
  -1e9,
  2 ** 31,
  2 ** 53,
  1e300,
  -1e300,
  "",
  "x",
  "hot",
  "0",
  "1",
  "-1",
  "0.5",
  "true",
  "auto",
  "none",
  "text",
  "nan",
  "Infinity",
  "1e999",
  "\u0000",
  "\ud800",
  "东京 🦊",
  "<|im_end|>",
  "__proto__",
  "{{ 1 / 0 }}",
  "{% for %}",
  "x".repeat(500),
];

const fields = [
  "prompt",
  "model",
  "n",
  "temperature",
  "top_p",
  "top_k",
  "min_p",
  "presence_penalty",
  "frequency_penalty",
  "repetition_penalty",
  "seed",
  "max_tokens",
  "max_completion_tokens",
  "min_tokens",
  "stop",
  "stop_token_ids",
  "include_stop_str_in_output",
  "ignore_eos",
  "logprobs",
  "top_logprobs",
  "prompt_logprobs",
  "logit_bias",
  "allowed_token_ids",
  "skip_special_tokens",
  "stream",
  "stream_options",
  "echo",
  "truncate_prompt_tokens",
  "add_special_tokens",
  "priority",
  "request_id",
  "return_token_ids",
  "return_tokens_as_token_ids",
  "cache_salt",
  "suffix",
  "best_of",
  "tools",
  "tool_choice",
  "response_format",
  "messages",
  "add_generation_prompt",
  "continue_final_message",
  "chat_template",
  "chat_template_kwargs",
  "documents",
  "user",
  "tokens",
  "return_token_strs",
  "__proto__",
  "constructor",
  "toString",
] as const;

const keys = [
  "role",
  "content",
  "type",
  "text",
  "include_usage",
  "0",
  "65",
  "99999",
  "__proto__",
  "mood",
];

function anyValue(dice: Dice, depth = 0): unknown {
  const kind = dice.below(depth > 3 ? 6 : 10);
  if (kind < 6) return dice.pick(scalars);
  if (kind < 8) return Array.from({ length: dice.below(4) }, () => anyValue(dice, depth + 1));
  const entries = Array.from({ length: dice.below(4) }, () => [
    dice.pick(keys),
    anyValue(dice, depth + 1),
  ]);
  return Object.fromEntries(entries);
}

const sane: Record<string, (dice: Dice) => unknown> = {
  prompt: (dice) => dice.pick(["x", ["x", "yz"], [1, 2], [[1], [2, 3]]]),
  messages: (dice) => [
    { role: "user", content: dice.pick(["x", [{ type: "text", text: "x" }]]) },
    ...(dice.below(2) ? [{ role: "assistant", content: "y", name: anyValue(dice) }] : []),
  ],
  tokens: () => [1, 2, 3],
};

/** A body that is nearly right: prompts of every route, and a few fields of any kind. */
function anyBody(dice: Dice): Record<string, unknown> {
  const body: Record<string, unknown> = {};
  for (const [field, make] of Object.entries(sane)) {
    if (dice.below(8) > 0) body[field] = make(dice);
  }
  for (let count = dice.below(5); count > 0; count--) body[dice.pick(fields)] = anyValue(dice);
  return body;
}

/** Its JSON, now and then with a byte cut, doubled or changed. */
function anyText(dice: Dice): string {
  const text = JSON.stringify(anyBody(dice));
  if (dice.below(5) > 0) return text;
  const at = dice.below(text.length);
  const replacement = dice.pick(["", text[at]! + text[at]!, '"', "{", "\\", "\n", "9"]);
  return text.slice(0, at) + replacement + text.slice(at + 1);
}

const routes = [
  "/v1/completions",
  "/v1/completions",
  "/v1/chat/completions",
  "/tokenize",
  "/detokenize",
];
const expected = new Set([200, 400, 404]);

const answered = { 200: 0, other: 0 };

/** Sends one body; says what is wrong with the answer, null when nothing is. */
async function complaint(path: string, text: string): Promise<string | null> {
  const response = await server.post(path, text);
  const answer = await response.text();
  answered[response.status === 200 ? 200 : "other"]++;
  if (!expected.has(response.status)) return `HTTP ${response.status}: ${answer}`;
  if (response.status === 200) return null;
  const { error } = JSON.parse(answer) as JsonObject;
  const isShaped = typeof error.message === "string" && error.code === response.status;
  return isShaped && answer.length < 20_000 ? null : `misshapen: ${answer}`;
}

async function collectComplaints(total: number, seed: number): Promise<string[]> {
  const dice = new Dice(seed);
  const complaints: string[] = [];
  let left = total;
  const worker = async () => {
    while (left-- > 0) {
      const path = dice.pick(routes);
      const text = anyText(dice);
      const found = await complaint(path, text);
      if (found !== null) complaints.push(`${path} ${text.slice(0, 500)} -> ${found}`);
    }
  };
  await Promise.all(Array.from({ length: 16 }, worker));
  return complaints;
}

describe("thousands of generated bodies", () => {
  it("are answered or refused, never with a fault of the server", async () => {
    const complaints = await collectComplaints(4000, 20_240_607);
    expect(complaints).toEqual([]);
    // Both ways through the server were taken often.
    expect(answered[200]).toBeGreaterThan(400);
    expect(answered.other).toBeGreaterThan(1000);
    expect(server.faults).toEqual([]);
    await until(() => server.engine.stats().running + server.engine.stats().waiting === 0);
    expect(server.engine.stats().usedBlocks).toBe(0);
    const { status } = await server.ask("/v1/completions", { prompt: "x" });
    expect(status).toBe(200);
  });

  it("deep nesting is refused, not a crash", async () => {
    for (const [open, close] of [
      ["[", "]"],
      ['{"a":', "}"],
    ] as const) {
      const nested = `${open.repeat(100_000)}1${close.repeat(100_000)}`;
      for (const field of ["prompt", "messages", "logit_bias", "stop", "stream_options"]) {
        const { status } = await server.ask("/v1/completions", `{"${field}":${nested}}`);
        expect(status).toBe(400);
      }
      const messages = `[{"role":"user","content":"x","extra":${nested}}]`;
      for (const path of ["/v1/chat/completions", "/tokenize"]) {
        const response = await server.post(path, `{"messages":${messages},"max_tokens":1}`);
        expect(response.status).toBeLessThan(500);
        await response.text();
      }
    }
    expect(server.faults).toEqual([]);
  });
});
