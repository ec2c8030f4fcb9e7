import type OpenAI from "openai";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Harness, type JsonObject, MODEL } from "./harness.js";

/** Structured outputs by the official client, over a model with a will of its own. */

let server: Harness;
let client: OpenAI;

beforeAll(async () => {
  server = await Harness.start();
  // Quotes wherever they may be, else the next character that may.
  server.executor.script = () => 0x22;
  client = server.client();
});
afterAll(() => server.close());

const messages = [{ role: "user" as const, content: "Hi" }];
const schema = {
  type: "object",
  properties: { city: { enum: ["Rome", "Oslo"] }, ok: { type: "boolean" } },
  required: ["city", "ok"],
  additionalProperties: false,
};
const format = {
  type: "json_schema" as const,
  json_schema: { name: "answer", schema, strict: true },
};

const complete = (fields: object) =>
  client.completions.create({ model: MODEL, prompt: "x", max_tokens: 60, ...fields } as JsonObject);

describe("response_format", () => {
  it("json_schema, in one piece and streamed", async () => {
    const options = { model: MODEL, messages, response_format: format, max_tokens: 60 };
    const whole = await client.chat.completions.create(options);
    const { message, finish_reason } = whole.choices[0]!;
    expect(Object.keys(JSON.parse(message.content!))).toEqual(["city", "ok"]);
    expect(finish_reason).toBe("stop");
    let text = "";
    const stream = await client.chat.completions.create({ ...options, stream: true });
    for await (const part of stream) text += part.choices[0]?.delta.content ?? "";
    expect(text).toBe(message.content);
  });

  it("json_object", async () => {
    const answer = await client.chat.completions.create({
      model: MODEL,
      messages,
      response_format: { type: "json_object" },
      max_tokens: 8,
    });
    expect(answer.choices[0]!.message.content).toMatch(/^\{/);
  });

  it("is kept by every one of n sequences, with logprobs of what is allowed", async () => {
    const answer = await client.chat.completions.create({
      model: MODEL,
      messages,
      response_format: format,
      n: 3,
      logprobs: true,
      max_tokens: 60,
    });
    for (const { message, logprobs } of answer.choices) {
      expect(["Rome", "Oslo"]).toContain(JSON.parse(message.content!).city);
      expect(logprobs!.content!.map(({ token }) => token).join("")).toContain(message.content);
    }
  });

  it("ends at a stop string within it", async () => {
    const answer = await client.chat.completions.create({
      model: MODEL,
      messages,
      response_format: format,
      stop: ["city"],
      max_tokens: 60,
    });
    expect(answer.choices[0]).toMatchObject({ finish_reason: "stop", stop_reason: "city" });
    expect(answer.choices[0]!.message.content!.trimEnd()).toMatch(/^\{\s*"$/);
  });
});

const kinds: [object, RegExp][] = [
  [{ structured_outputs: { choice: ["no", "yes"] } }, /^(no|yes)$/],
  [{ structured_outputs: { regex: "[A-Z]{3}-\\d{2}" } }, /^[A-Z]{3}-\d{2}$/],
  [
    { structured_outputs: { json: schema, disable_any_whitespace: true } },
    /^\{"city": "(Rome|Oslo)", "ok": /,
  ],
  [{ structured_outputs: { json: JSON.stringify(schema) } }, /^\{\s*"city"/],
  [{ structured_outputs: { grammar: 'root ::= "ab" | "cd"' } }, /^(ab|cd)$/],
  [{ guided_choice: ["no", "yes"] }, /^(no|yes)$/],
  [{ guided_regex: "x{2}" }, /^xx$/],
  [{ guided_json: { type: "null" } }, /^null$/],
  [{ guided_grammar: 'root ::= "q"' }, /^q$/],
  [{ response_format: { type: "text" }, max_tokens: 3 }, /^"""$/],
];

describe("structured_outputs and its older names", () => {
  it.each(kinds)("%j", async (fields, pattern) => {
    const { choices } = await complete(fields);
    expect(choices[0]!.text).toMatch(pattern);
  });

  it("goes on to the end of the tokens under ignore_eos, and stays what it was", async () => {
    const { choices, usage } = await complete({
      structured_outputs: { choice: ["ab"] },
      ignore_eos: true,
      max_tokens: 6,
    });
    expect(choices[0]).toMatchObject({ text: "ab", finish_reason: "length" });
    expect(usage!.completion_tokens).toBe(6);
  });
});

const refusals: [object, string][] = [
  [
    { structured_outputs: { regex: "a", choice: ["b"] } },
    "You can only use one kind of constraints for structured outputs ('json', 'regex' or 'choice').",
  ],
  [
    { structured_outputs: { regex: "a" }, response_format: { type: "json_object" } },
    "You can only use one kind of constraints",
  ],
  [{ structured_outputs: {} }, "You must use one kind of structured outputs constraint"],
  [{ structured_outputs: { choice: [] } }, "choice must be a list of at least one string"],
  [{ structured_outputs: { regex: "(" } }, "Failed to transform regex into a grammar: "],
  [{ structured_outputs: { json: "{" } }, "Invalid JSON grammar specification."],
  [{ structured_outputs: { json: { type: "what" } } }, 'Unsupported type "what"'],
  [{ structured_outputs: { grammar: "nothing" } }, "Invalid grammar specification: "],
  [{ structured_outputs: { whitespace_pattern: " ", json: {} } }, "whitespace_pattern is not"],
  [
    { response_format: { type: "json_schema" } },
    "When response_format type is 'json_schema', the 'json_schema' field must be provided.",
  ],
  [{ response_format: { type: "yaml" } }, "response_format.type must be one of"],
  [{ structured_outputs: "json" }, "Input should be a valid dictionary"],
  [{ guided_json: 5 }, "Input should be a JSON schema"],
];

describe("bad constraints", () => {
  it.each(refusals)("%j", async (fields, message) => {
    const refused = complete(fields);
    await expect(refused).rejects.toMatchObject({ status: 400 });
    await expect(refused).rejects.toThrow(message);
  });

  it("do no harm to their neighbours, nor to those after them", async () => {
    const story = complete({ max_tokens: 40 });
    await Promise.allSettled(
      Array.from({ length: 20 }, (_, i) => complete({ guided_regex: `${"(".repeat(i + 1)}a` })),
    );
    expect((await story).choices[0]!.text).toHaveLength(40);
    expect((await complete({ guided_choice: ["fine"] })).choices[0]!.text).toBe("fine");
  });

  it("need a tokenizer", async () => {
    const bare = await Harness.start({ withTokenizer: false });
    const { status, body } = await bare.ask("/v1/completions", {
      prompt: [1, 2],
      structured_outputs: { choice: ["a"] },
    });
    expect(status).toBe(400);
    expect(body.error.message).toContain("can't be used with 'skip_tokenizer_init'");
    await bare.close();
  });
});

describe("under pressure", () => {
  it("survives preemption: more sequences than the blocks hold", async () => {
    const small = await Harness.start({ cache: { numBlocks: 12 } });
    const answers = await Promise.all(
      Array.from({ length: 6 }, (_, i) =>
        small.client().chat.completions.create({
          model: MODEL,
          messages: [{ role: "user", content: `Number ${i}` }],
          max_tokens: 90,
          response_format: {
            type: "json_schema",
            json_schema: { name: "n", schema: { const: `${"word ".repeat(12)}${i}` } },
          },
        }),
      ),
    );
    for (const [i, { choices }] of answers.entries()) {
      expect(JSON.parse(choices[0]!.message.content!)).toBe(`${"word ".repeat(12)}${i}`);
    }
    expect(small.engine.stats().numPreemptions).toBeGreaterThan(0);
    await small.close();
  });

  it("lets go of requests whose client leaves", async () => {
    const controller = new AbortController();
    const stream = await client.chat.completions.create(
      {
        model: MODEL,
        messages,
        structured_outputs: { regex: "(ab)*" },
        stream: true,
        max_tokens: 400,
      } as JsonObject,
      { signal: controller.signal },
    );
    await (stream as unknown as AsyncIterable<unknown>)[Symbol.asyncIterator]().next();
    controller.abort();
    const { choices } = await complete({ guided_choice: ["ok"] });
    expect(choices[0]!.text).toBe("ok");
  });
});
