import type OpenAI from "openai";
import { afterEach, describe, expect, it } from "vitest";
import { Harness, type HarnessSettings, type JsonObject, MODEL } from "./harness.js";

/** Tools and reasoning by the official client; the model says what a test lets it. */

let server: Harness;
let client: OpenAI;

afterEach(() => server.close());

async function serve(text: string, options: HarnessSettings["options"] = {}): Promise<void> {
  server = await Harness.saying(text, options);
  client = server.client();
}

const messages = [{ role: "user" as const, content: "Hi" }];
const weather = {
  type: "function" as const,
  function: {
    name: "get_weather",
    description: "Tells the weather",
    parameters: {
      type: "object",
      properties: { city: { type: "string", enum: ["Rome", "Oslo"] } },
      required: ["city"],
      additionalProperties: false,
    },
  },
};
const clock = { type: "function" as const, function: { name: "get_time" } };
const request = { model: MODEL, messages, tools: [weather, clock], max_tokens: 200 };
const auto = { enableAutoToolChoice: true, toolCallParser: "hermes" };

const callText =
  'Let me look.\n<tool_call>\n{"name": "get_weather", "arguments": {"city": "Oslo"}}\n</tool_call>' +
  '<tool_call>{"name": "get_time", "arguments": {}}</tool_call>';

/** Streams and puts the deltas together as clients do. */
async function streamed(body: object) {
  const stream = (await client.chat.completions.create({
    ...body,
    stream: true,
  } as JsonObject)) as unknown as AsyncIterable<JsonObject>;
  const message: JsonObject = { content: "", reasoning: "", tool_calls: [] };
  let finishReason: string | null = null;
  for await (const part of stream) {
    const [choice] = part.choices;
    if (choice === undefined) continue;
    message.content += choice.delta.content ?? "";
    message.reasoning += choice.delta.reasoning ?? "";
    for (const { index, function: called, ...head } of choice.delta.tool_calls ?? []) {
      message.tool_calls[index] ??= { ...head, name: called.name, arguments: "" };
      message.tool_calls[index].arguments += called.arguments;
    }
    finishReason = choice.finish_reason ?? finishReason;
  }
  return { message, finishReason };
}

describe("tool_choice auto", () => {
  it("finds calls in the text, in one piece and streamed", async () => {
    await serve(callText, auto);
    const { choices } = await client.chat.completions.create(request);
    expect(choices[0]!.finish_reason).toBe("tool_calls");
    expect(choices[0]!.message.content).toBe("Let me look.\n");
    expect(choices[0]!.message.tool_calls).toEqual([
      {
        id: expect.stringMatching(/^chatcmpl-tool-[0-9a-f]{32}$/),
        type: "function",
        function: { name: "get_weather", arguments: '{"city": "Oslo"}' },
      },
      {
        id: expect.any(String),
        type: "function",
        function: { name: "get_time", arguments: "{}" },
      },
    ]);
    const { message, finishReason } = await streamed(request);
    expect(finishReason).toBe("tool_calls");
    expect(message.content).toBe("Let me look.\n");
    expect(message.tool_calls).toEqual([
      {
        id: expect.stringMatching(/^chatcmpl-tool-/),
        type: "function",
        name: "get_weather",
        arguments: '{"city": "Oslo"}',
      },
      { id: expect.any(String), type: "function", name: "get_time", arguments: "{}" },
    ]);
  });

  it("works with the client's own reader of streams", async () => {
    await serve(callText, auto);
    const final = await client.chat.completions.stream(request).finalChatCompletion();
    expect(final.choices[0]!.message.tool_calls!.map((call) => call.type)).toEqual([
      "function",
      "function",
    ]);
  });

  it("keeps the first call when they may not be parallel", async () => {
    await serve(callText, auto);
    const { choices } = await client.chat.completions.create({
      ...request,
      parallel_tool_calls: false,
    });
    expect(choices[0]!.message.tool_calls).toHaveLength(1);
  });

  it("leaves text without calls alone", async () => {
    await serve("Just text.", auto);
    const { choices } = await client.chat.completions.create(request);
    expect(choices[0]).toMatchObject({ finish_reason: "stop" });
    expect(choices[0]!.message).toMatchObject({ content: "Just text.", tool_calls: [] });
  });

  it("reads Llama's calls", async () => {
    await serve('{"name": "get_time", "parameters": {}}', {
      enableAutoToolChoice: true,
      toolCallParser: "llama3_json",
    });
    const { choices } = await client.chat.completions.create(request);
    expect(choices[0]!.message).toMatchObject({
      content: null,
      tool_calls: [{ function: { name: "get_time", arguments: "{}" } }],
    });
  });

  it("is refused without its flags", async () => {
    await serve("");
    await expect(client.chat.completions.create(request)).rejects.toThrow(
      '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set',
    );
    const unused = await client.chat.completions.create({ ...request, tool_choice: "none" });
    expect(unused.choices[0]!.message.tool_calls).toEqual([]);
  });
});

describe("calls that must be made", () => {
  it("named: the arguments by their schema", async () => {
    await serve('{"city": "Paris"}');
    const body = {
      ...request,
      tool_choice: { type: "function" as const, function: { name: "get_weather" } },
    };
    const { choices } = await client.chat.completions.create(body);
    const [call] = choices[0]!.message.tool_calls! as JsonObject[];
    expect(call.function.name).toBe("get_weather");
    expect(["Rome", "Oslo"]).toContain(JSON.parse(call.function.arguments).city);
    expect(choices[0]!.finish_reason).toBe("stop");
    const { message } = await streamed(body);
    expect(message.tool_calls[0].arguments).toBe(call.function.arguments);
  });

  it("required: one of the tools, by its schema", async () => {
    await serve('[{"name": "get_w', { toolCallParser: "hermes" });
    const body = { ...request, tool_choice: "required" as const, parallel_tool_calls: false };
    server.executor.script = (k) => Buffer.from('[{"name": "get_w')[k] ?? 0x22;
    const { choices } = await client.chat.completions.create(body);
    const calls = choices[0]!.message.tool_calls! as JsonObject[];
    expect(calls).toHaveLength(1);
    expect(calls[0].function.name).toBe("get_weather");
    expect(["Rome", "Oslo"]).toContain(JSON.parse(calls[0].function.arguments).city);
    expect(choices[0]!.finish_reason).toBe("tool_calls");
    const { message, finishReason } = await streamed(body);
    expect(message.tool_calls[0].arguments).toBe(calls[0].function.arguments);
    expect(finishReason).toBe("tool_calls");
  });

  const refusals: [object, string][] = [
    [{ tools: [], tool_choice: "auto" }, "When using `tool_choice`, `tools` must be set."],
    [{ tools: undefined, tool_choice: "required" }, "`tools` must be set."],
    [{ tool_choice: "sometimes" }, 'Invalid value for `tool_choice`: "sometimes"!'],
    [{ tool_choice: { type: "function" } }, "Expected field `function` in `tool_choice`."],
    [
      { tool_choice: { type: "function", function: { name: "other" } } },
      "does not match any of the specified `tools`",
    ],
    [{ tool_choice: "required" }, 'tool_choice="required" requires --tool-call-parser to be set'],
    [{ functions: [{ name: "f" }] }, "functions are not supported"],
    [{ tools: [{ type: "function" }] }, "validation error"],
    [
      {
        tool_choice: { type: "function", function: { name: "get_time" } },
        response_format: { type: "json_object" },
      },
      "cannot be combined with structured outputs",
    ],
  ];
  it("is refused in vLLM's words where it cannot be", async () => {
    await serve("");
    for (const [fields, message] of refusals) {
      const refused = client.chat.completions.create({ ...request, ...fields } as JsonObject);
      await expect(refused).rejects.toMatchObject({ status: 400 });
      await expect(refused).rejects.toThrow(message);
    }
  });
});

describe("the prompt", () => {
  const template = "{{ tools | length if tools else 0 }}";

  it("shows the tools, unless they may not be called and the server says so", async () => {
    const prompt = () => server.tokenizer.decode([...server.executor.seen.at(-1)!.promptTokenIds]);
    await serve("x", { ...auto, chatTemplate: template });
    await client.chat.completions.create(request);
    expect(prompt()).toBe("2");
    await client.chat.completions.create({ ...request, tool_choice: "none" });
    expect(prompt()).toBe("2");
    await server.close();
    await serve("x", { ...auto, chatTemplate: template, excludeToolsWhenToolChoiceNone: true });
    await client.chat.completions.create({ ...request, tool_choice: "none" });
    expect(prompt()).toBe("0");
  });
});

describe("reasoning", () => {
  const thought = "<think>\nHm.\n</think>\n\nYes.";
  const body = { model: MODEL, messages, max_tokens: 200 };

  it("is taken out of the text, in one piece and streamed", async () => {
    await serve(thought, { reasoningParser: "qwen3" });
    const { choices } = await client.chat.completions.create(body);
    expect(choices[0]!.message).toMatchObject({ reasoning: "\nHm.\n", content: "\n\nYes." });
    const { message } = await streamed(body);
    expect(message).toMatchObject({ reasoning: "\nHm.\n", content: "\n\nYes." });
  });

  it("is left out on request, and left in the text without a parser", async () => {
    await serve(thought, { reasoningParser: "deepseek_r1" });
    const { message } = await streamed({ ...body, include_reasoning: false });
    expect(message).toMatchObject({ reasoning: "", content: "\n\nYes." });
    await server.close();
    await serve(thought);
    const { choices } = await client.chat.completions.create(body);
    expect(choices[0]!.message).toMatchObject({ reasoning: null, content: thought });
  });

  it("may have begun, or ended, in the prompt", async () => {
    await serve("Hm.</think>Yes.", {
      reasoningParser: "qwen3",
      chatTemplate: "<think>{{ tail }}",
    });
    const begun = await client.chat.completions.create(body);
    expect(begun.choices[0]!.message).toMatchObject({ reasoning: "Hm.", content: "Yes." });
    const ended = await client.chat.completions.create({
      ...body,
      chat_template_kwargs: { tail: "</think>" },
    } as JsonObject);
    expect(ended.choices[0]!.message).toMatchObject({
      reasoning: null,
      content: "Hm.</think>Yes.",
    });
  });

  it("gives the template reasoning_effort", async () => {
    await serve("x", { chatTemplate: "{{ reasoning_effort }}" });
    await client.chat.completions.create({ ...body, reasoning_effort: "low" });
    expect(server.tokenizer.decode([...server.executor.seen.at(-1)!.promptTokenIds])).toBe("low");
  });
});
