import type OpenAI from "openai";
import { afterEach, describe, expect, it } from "vitest";
import { Harness, type HarnessSettings, type JsonObject, MODEL } from "./harness.js";

let server: Harness;
let client: OpenAI;

afterEach(() => server.close());

async function serve(text: string, options: HarnessSettings["options"] = {}): Promise<void> {
  server = await Harness.saying(text, options);
  client = server.client();
}

const lastPrompt = () => server.tokenizer.decode([...server.executor.seen.at(-1)!.promptTokenIds]);

const weather = {
  type: "function" as const,
  name: "get_weather",
  parameters: { type: "object", properties: { city: { enum: ["Rome"] } }, required: ["city"] },
  strict: true,
};
const callText =
  '<think>Hm.</think>So: <tool_call>{"name": "get_weather", "arguments": {"city": "Rome"}}</tool_call>';
const tools = { enableAutoToolChoice: true, toolCallParser: "hermes", reasoningParser: "qwen3" };

describe("/v1/responses", () => {
  it("answers a string, with instructions", async () => {
    await serve("Hello.");
    const response = await client.responses.create({
      model: MODEL,
      input: "Hi",
      instructions: "Be brief.",
      max_output_tokens: 20,
    });
    expect(response.output_text).toBe("Hello.");
    expect(response).toMatchObject({ status: "completed", object: "response", model: MODEL });
    expect(response.id).toMatch(/^resp_/);
    expect(response.usage).toMatchObject({
      output_tokens: 7,
      total_tokens: response.usage!.input_tokens + 7,
    });
    expect(lastPrompt()).toContain("<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi");
  });

  it("takes a conversation with calls and their results", async () => {
    await serve("ok", {
      chatTemplate:
        "{% for m in messages %}{{ m.role }}:{{ m.content }}:{{ m.tool_calls | length if m.tool_calls else 0 }};{% endfor %}",
    });
    await client.responses.create({
      model: MODEL,
      input: [
        { role: "user", content: [{ type: "input_text", text: "Weather?" }] },
        { type: "reasoning", id: "rs_1", summary: [] },
        { type: "function_call", call_id: "c1", name: "get_weather", arguments: "{}" },
        { type: "function_call", call_id: "c2", name: "get_weather", arguments: "{}" },
        { type: "function_call_output", call_id: "c1", output: "sunny" },
        { role: "assistant", content: "Sunny." },
      ] as JsonObject,
    });
    expect(lastPrompt()).toBe("user:Weather?:0;assistant::2;tool:sunny:0;assistant:Sunny.:0;");
  });

  it("streams the events that the client puts together", async () => {
    await serve(callText, tools);
    const stream = client.responses.stream({ model: MODEL, input: "Hi", tools: [weather] });
    const types: string[] = [];
    let numbered = 0;
    for await (const event of stream) {
      expect(event.sequence_number).toBe(numbered++);
      if (types.at(-1) !== event.type) types.push(event.type);
    }
    expect(types).toEqual([
      "response.created",
      "response.in_progress",
      "response.output_item.added",
      "response.content_part.added",
      "response.reasoning_text.delta",
      "response.reasoning_text.done",
      "response.content_part.done",
      "response.output_item.done",
      "response.output_item.added",
      "response.content_part.added",
      "response.output_text.delta",
      "response.output_text.done",
      "response.content_part.done",
      "response.output_item.done",
      "response.output_item.added",
      "response.function_call_arguments.delta",
      "response.function_call_arguments.done",
      "response.output_item.done",
      "response.completed",
    ]);
    const final = await stream.finalResponse();
    expect(final.output_text).toBe("So: ");
    const call = final.output.find(({ type }) => type === "function_call") as JsonObject;
    expect(call).toMatchObject({ name: "get_weather", arguments: '{"city": "Rome"}' });
    const whole = await client.responses.create({ model: MODEL, input: "Hi", tools: [weather] });
    expect(whole.output.map(({ type }) => type)).toEqual(["reasoning", "message", "function_call"]);
  });

  it("holds output to a schema, and tells when it was cut", async () => {
    await serve('{"city": "Rome"}');
    const format = { type: "json_schema" as const, name: "x", schema: weather.parameters };
    const response = await client.responses.create({ model: MODEL, input: "Hi", text: { format } });
    expect(JSON.parse(response.output_text)).toEqual({ city: "Rome" });
    const cut = await client.responses.create({ model: MODEL, input: "Hi", max_output_tokens: 3 });
    expect(cut).toMatchObject({
      status: "incomplete",
      incomplete_details: { reason: "max_output_tokens" },
    });
  });

  it("refuses what it cannot do", async () => {
    await serve("x");
    const refusals: [object, string][] = [
      [{ previous_response_id: "resp_1" }, "previous_response_id is not supported"],
      [{ background: true }, "background mode is not supported"],
      [{ truncation: "auto" }, "truncation must be disabled"],
      [{ tools: [{ type: "web_search" }] }, "Tools of type web_search are not supported"],
      [{ input: 5 }, "Input should be a string or a list of items"],
      [{ input: [{ type: "item_reference" }] }, "Input items of type item_reference"],
      [{ model: "other" }, "The model `other` does not exist."],
      [{ temperature: -1 }, "temperature must be non-negative"],
    ];
    for (const [fields, message] of refusals) {
      const refused = client.responses.create({
        model: MODEL,
        input: "Hi",
        ...fields,
      } as JsonObject);
      await expect(refused).rejects.toThrow(message);
    }
    await expect(client.responses.retrieve("resp_1")).rejects.toMatchObject({ status: 404 });
    await expect(client.responses.cancel("resp_1")).rejects.toMatchObject({ status: 404 });
  });
});

describe("/v1/messages", () => {
  const PATH = "/v1/messages";
  const body = { model: MODEL, max_tokens: 100, messages: [{ role: "user", content: "Hi" }] };
  const weatherTool = { name: "get_weather", description: "d", input_schema: weather.parameters };

  it("answers as Anthropic's API does", async () => {
    await serve("Hello.");
    const answer = await server.ask(PATH, {
      ...body,
      system: [{ type: "text", text: "Be brief." }],
    });
    expect(answer.body).toEqual({
      id: expect.stringMatching(/^msg_/),
      type: "message",
      role: "assistant",
      content: [{ type: "text", text: "Hello." }],
      model: MODEL,
      stop_reason: "end_turn",
      stop_sequence: null,
      usage: {
        input_tokens: expect.any(Number),
        output_tokens: 7,
        cache_creation_input_tokens: 0,
        cache_read_input_tokens: 0,
      },
    });
    expect(lastPrompt()).toContain("<|im_start|>system\nBe brief.");
  });

  it("tells why it stopped", async () => {
    await serve("Hello.");
    const cut = await server.ask(PATH, { ...body, max_tokens: 2 });
    expect(cut.body.stop_reason).toBe("max_tokens");
    const stopped = await server.ask(PATH, { ...body, stop_sequences: ["lo"] });
    expect(stopped.body).toMatchObject({
      stop_reason: "stop_sequence",
      stop_sequence: "lo",
      content: [{ type: "text", text: "Hel" }],
    });
  });

  it("thinks, and calls tools, in one piece and streamed", async () => {
    await serve(callText, tools);
    const request = { ...body, tools: [weatherTool] };
    const { body: whole } = await server.ask(PATH, request);
    expect(whole.stop_reason).toBe("tool_use");
    expect(whole.content).toEqual([
      { type: "thinking", thinking: "Hm.", signature: "" },
      { type: "text", text: "So: " },
      { type: "tool_use", id: expect.any(String), name: "get_weather", input: { city: "Rome" } },
    ]);
    const text = await (await server.post(PATH, { ...request, stream: true })).text();
    const events = text
      .trimEnd()
      .split("\n\n")
      .map((event) => {
        const [, name, data] = /^event: (.*)\ndata: (.*)$/.exec(event)!;
        const parsed = JSON.parse(data!);
        expect(parsed.type).toBe(name);
        return parsed;
      });
    const blocks: JsonObject[] = [];
    for (const { type, index, content_block, delta } of events) {
      if (type === "content_block_start") blocks[index] = { ...content_block, given: "" };
      if (type === "content_block_delta") {
        blocks[index].given += delta.text ?? delta.thinking ?? delta.partial_json;
      }
    }
    expect(blocks.map(({ type, given }) => [type, given])).toEqual([
      ["thinking", "Hm."],
      ["text", "So: "],
      ["tool_use", '{"city": "Rome"}'],
    ]);
    expect(events[0].type).toBe("message_start");
    expect(events.at(-2)).toMatchObject({
      type: "message_delta",
      delta: { stop_reason: "tool_use" },
    });
    expect(events.at(-1)).toEqual({ type: "message_stop" });
  });

  it("takes results of tools, and forces a call", async () => {
    await serve('{"city": "Rome"}', {
      chatTemplate: "{% for m in messages %}{{ m.role }}:{{ m.content }};{% endfor %}",
    });
    const answer = await server.ask(PATH, {
      ...body,
      messages: [
        { role: "user", content: "Hi" },
        {
          role: "assistant",
          content: [
            { type: "thinking", thinking: "x" },
            { type: "tool_use", id: "t1", name: "get_weather", input: {} },
          ],
        },
        {
          role: "user",
          content: [
            { type: "tool_result", tool_use_id: "t1", content: [{ type: "text", text: "sunny" }] },
            { type: "text", text: "So?" },
          ],
        },
      ],
      tools: [weatherTool],
      tool_choice: { type: "tool", name: "get_weather" },
    });
    expect(lastPrompt()).toBe("user:Hi;assistant:;tool:sunny;user:So?;");
    expect(answer.body.content[0]).toMatchObject({ name: "get_weather", input: { city: "Rome" } });
  });

  it("counts tokens", async () => {
    await serve("x");
    const { body: counted } = await server.ask(`${PATH}/count_tokens`, { messages: body.messages });
    const { body: whole } = await server.ask(PATH, body);
    expect(counted).toEqual({ input_tokens: whole.usage.input_tokens });
  });

  it("refuses in Anthropic's shape, and takes its header for the key", async () => {
    await serve("x", { apiKeys: ["key"] });
    const ask = async (given: object, headers: Record<string, string>) => {
      const response = await server.post(PATH, given, headers);
      return { status: response.status, body: (await response.json()) as JsonObject };
    };
    expect(await ask(body, {})).toMatchObject({ status: 401, body: { type: "error" } });
    expect((await ask(body, { "x-api-key": "key" })).status).toBe(200);
    const bad = await ask({ ...body, max_tokens: undefined }, { "x-api-key": "key" });
    expect(bad).toMatchObject({
      status: 400,
      body: { type: "error", error: { param: "max_tokens" } },
    });
    const image = { ...body, messages: [{ role: "user", content: [{ type: "image" }] }] };
    expect((await ask(image, { "x-api-key": "key" })).body.error.message).toContain("only text");
  });
});
