import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { specialIds } from "./byte-tokenizer.js";
import { Harness, MODEL } from "./harness.js";
import { STORY } from "./scripted-executor.js";

let server: Harness;

beforeAll(async () => {
  server = await Harness.start();
});
afterAll(() => server.close());

const PATH = "/v1/chat/completions";
const messages = [
  { role: "system", content: "Be brief." },
  { role: "user", content: [{ type: "text", text: "Hi" }] },
];

/** The text that the engine was last asked to go on from. */
function lastPrompt(): string {
  return server.tokenizer.decode([...server.executor.seen.at(-1)!.promptTokenIds]);
}

describe("the prompt", () => {
  it("is made by the model's template", async () => {
    await server.ask(PATH, { messages, max_tokens: 1, chat_template_kwargs: { mood: "(calm) " } });
    expect(lastPrompt()).toBe(
      "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n" +
        "<|im_start|>assistant\n(calm) ",
    );
    expect(server.executor.seen.at(-1)!.promptTokenIds[0]).toBe(specialIds.imStart);
  });

  it("may go on with the last message", async () => {
    const open = [...messages, { role: "assistant", content: "Well, " }];
    const { body } = await server.ask(PATH, {
      messages: open,
      max_tokens: 3,
      add_generation_prompt: false,
      continue_final_message: true,
      echo: true,
    });
    expect(lastPrompt().endsWith("assistant\nWell, ")).toBe(true);
    expect(body.choices[0].message.content).toBe("Well, The");
  });

  it("is not made by a template of the request unless those are trusted", async () => {
    const body = { messages, chat_template: "{{ messages | length }}", max_tokens: 1 };
    const refused = await server.ask(PATH, body);
    expect(refused.status).toBe(400);
    expect(refused.body.error.message).toContain("--trust-request-chat-template is not set");
    const trusting = await Harness.start({ options: { trustRequestChatTemplate: true } });
    const { status } = await trusting.ask(PATH, body);
    expect(status).toBe(200);
    expect([...trusting.executor.seen[0]!.promptTokenIds]).toEqual(
      [..."2"].map((c) => c.charCodeAt(0)),
    );
    await trusting.close();
  });
});

describe("the answer in one piece", () => {
  it("has every field of vLLM's", async () => {
    const { status, body } = await server.ask(PATH, {
      messages,
      max_completion_tokens: 9,
      cache_salt: "never seen before",
    });
    expect(status).toBe(200);
    expect(body.id).toMatch(/^chatcmpl-[0-9a-f]{32}$/);
    const promptTokens = server.executor.seen.at(-1)!.promptTokenIds.length;
    expect(body).toEqual({
      id: body.id,
      object: "chat.completion",
      created: body.created,
      model: MODEL,
      choices: [
        {
          index: 0,
          message: {
            role: "assistant",
            content: "The quick",
            refusal: null,
            annotations: null,
            audio: null,
            function_call: null,
            tool_calls: [],
            reasoning: null,
          },
          logprobs: null,
          finish_reason: "length",
          stop_reason: null,
          token_ids: null,
        },
      ],
      service_tier: null,
      system_fingerprint: null,
      usage: {
        prompt_tokens: promptTokens,
        total_tokens: promptTokens + 9,
        completion_tokens: 9,
        prompt_tokens_details: { cached_tokens: 0 },
      },
      prompt_logprobs: null,
      prompt_token_ids: null,
      kv_transfer_params: null,
    });
  });

  it("counts the prompt tokens that were not computed, which salts keep apart", async () => {
    const cachedTokens = async (fields: object) => {
      const { body } = await server.ask(PATH, { messages, max_tokens: 1, ...fields });
      return body.usage.prompt_tokens_details.cached_tokens;
    };
    const promptTokens = server.executor.seen.at(-1)!.promptTokenIds.length;
    const wholeBlocks = Math.floor((promptTokens - 1) / 16) * 16;
    expect(wholeBlocks).toBeGreaterThan(0);
    expect(await cachedTokens({ cache_salt: "a" })).toBe(0);
    expect(await cachedTokens({ cache_salt: "a" })).toBe(wholeBlocks);
    expect(await cachedTokens({ cache_salt: "b" })).toBe(0);
    await cachedTokens({});
    expect(await cachedTokens({ n: 2 })).toBe(wholeBlocks);
    const refused = await server.ask(PATH, { messages, cache_salt: "\ud800" });
    expect(refused.status).toBe(400);
    expect(refused.body.error.param).toBe("cache_salt");
  });

  it("fills the context unless told otherwise", async () => {
    const { body } = await server.ask(PATH, { messages });
    expect(body.usage.total_tokens).toBe(512);
    expect(body.choices[0].finish_reason).toBe("length");
  });

  it("gives logprobs with bytes, the likeliest tokens best first", async () => {
    const { body } = await server.ask(PATH, {
      messages,
      max_tokens: 1,
      logprobs: true,
      top_logprobs: 2,
    });
    expect(body.choices[0].logprobs).toEqual({
      content: [
        {
          token: "T",
          logprob: -0.5,
          bytes: [84],
          top_logprobs: [
            { token: "T", logprob: -0.5, bytes: [84] },
            { token: "\u0001", logprob: -1, bytes: [1] },
          ],
        },
      ],
    });
  });

  it("has n choices", async () => {
    const { body } = await server.ask(PATH, { messages, max_tokens: 2, n: 3 });
    expect(body.choices.map((choice: { index: number }) => choice.index)).toEqual([0, 1, 2]);
    expect(body.usage.completion_tokens).toBe(6);
  });
});

describe("the stream", () => {
  it("has vLLM's bytes", async () => {
    const events = await server.events(PATH, {
      messages,
      max_tokens: 2,
      request_id: "abc",
      cache_salt: "not seen either",
      stream_options: { include_usage: true },
    });
    const created = JSON.parse(events[0]!).created;
    const promptTokens = server.executor.seen.at(-1)!.promptTokenIds.length;
    const head = `"id":"chatcmpl-abc","object":"chat.completion.chunk","created":${created},"model":"${MODEL}"`;
    expect(events).toEqual([
      `{${head},"choices":[{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}],"prompt_token_ids":null}`,
      `{${head},"choices":[{"index":0,"delta":{"content":"T"},"logprobs":null,"finish_reason":null,"token_ids":null}]}`,
      `{${head},"choices":[{"index":0,"delta":{"content":"h"},"logprobs":null,"finish_reason":"length","stop_reason":null,"token_ids":null}]}`,
      `{${head},"choices":[],"usage":{"prompt_tokens":${promptTokens},"total_tokens":${promptTokens + 2},"completion_tokens":2,"prompt_tokens_details":{"cached_tokens":0}}}`,
      "[DONE]",
    ]);
  });

  it("opens every choice with its role", async () => {
    const events = await server.events(PATH, { messages, max_tokens: 1, n: 2 });
    const deltas = events.slice(0, -1).map((event) => JSON.parse(event).choices[0]);
    expect(deltas.map(({ index, delta }) => [index, delta.role ?? null, delta.content])).toEqual([
      [0, "assistant", ""],
      [1, "assistant", ""],
      [0, null, "T"],
      [1, null, "T"],
    ]);
  });

  it("reads back to the whole through the official client", async () => {
    const stream = server.client().chat.completions.stream({
      model: MODEL,
      messages: [{ role: "user", content: "Tell me." }],
      max_tokens: 30,
      logprobs: true,
      top_logprobs: 1,
      stream_options: { include_usage: true },
    });
    const whole = await stream.finalChatCompletion();
    expect(whole.choices[0]?.message.content).toBe(STORY.slice(0, 30));
    expect(whole.choices[0]?.logprobs?.content).toHaveLength(30);
    expect(whole.usage?.completion_tokens).toBe(30);
  });
});

describe("what is refused", () => {
  const cases: [string, object, string][] = [
    ["no messages", {}, "Field required"],
    ["an empty list of messages", { messages: [] }, "messages must hold at least one message"],
    ["a message without role", { messages: [{ content: "x" }] }, "A message needs a role"],
    [
      "an image",
      { messages: [{ role: "user", content: [{ type: "image_url", image_url: { url: "x" } }] }] },
      "only text is served",
    ],
    ["tools", { messages, tools: [{ type: "function" }] }, "Field required"],
    [
      "tool_choice without tools",
      { messages, tool_choice: "auto" },
      "When using `tool_choice`, `tools` must be set.",
    ],
    [
      "top_logprobs alone",
      { messages, top_logprobs: 2 },
      "when using `top_logprobs`, `logprobs` must be set to true.",
    ],
    [
      "going on and opening at once",
      { messages, add_generation_prompt: true, continue_final_message: true },
      "Cannot set both `continue_final_message` and `add_generation_prompt` to True.",
    ],
  ];
  it.each(cases)("%s", async (_name, request, message) => {
    const { status, body } = await server.ask(PATH, request);
    expect(status).toBe(400);
    expect(body.error.message).toContain(message);
  });

  it("takes what asks for nothing", async () => {
    const idle = { tools: [], tool_choice: "none", response_format: { type: "text" } };
    expect((await server.ask(PATH, { messages, max_tokens: 1, ...idle })).status).toBe(200);
  });
});
