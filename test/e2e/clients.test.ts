import OpenAI from "openai";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { DEMO_MODEL, ServeProcess } from "./serving.js";

/** The official client, and requests in the form of Anthropic's, against the demo model itself. */

const greedy = { model: DEMO_MODEL, temperature: 0 } as const;
const messages = [{ role: "user" as const, content: "Where shall we meet, and when?" }];

/** Small enough that every output that matches it is short. */
const schema = {
  type: "object",
  properties: {
    city: { type: "string", enum: ["Paris", "Rome", "Oslo"] },
    hour: { type: "integer", minimum: 1, maximum: 12 },
  },
  required: ["city", "hour"],
  additionalProperties: false,
} as const;

const meet = { name: "meet", description: "Meets somebody.", parameters: { ...schema } };
const tools = [{ type: "function" as const, function: { ...meet } }];

/** Fails unless the text is JSON after the schema. */
function expectMeeting(text: string | null | undefined): void {
  const meeting = JSON.parse(text ?? "");
  expect(Object.keys(meeting)).toEqual(["city", "hour"]);
  expect(schema.properties.city.enum).toContain(meeting.city);
  expect(Number.isInteger(meeting.hour) && meeting.hour >= 1 && meeting.hour <= 12).toBe(true);
}

let server: ServeProcess;
let client: OpenAI;

beforeAll(async () => {
  server = await ServeProcess.start([
    ...["--enable-auto-tool-choice", "--tool-call-parser", "hermes"],
    ...["--max-model-len", "4096", "--kv-cache-memory-bytes", "64M"],
    "--enable-server-load-tracking",
    // A small model is fond of white space, of which JSON takes any amount.
    ...["--structured-outputs-config.disable_any_whitespace", "true"],
  ]);
  client = server.client();
});
afterAll(() => server?.destroy());

describe("chat completions", () => {
  it("choose several answers with log-probabilities", async () => {
    const { choices } = await client.chat.completions.create({
      ...{ model: DEMO_MODEL, messages, n: 2, seed: 3, temperature: 1 },
      ...{ logprobs: true, top_logprobs: 3, max_completion_tokens: 5 },
    });
    expect(choices).toHaveLength(2);
    for (const { logprobs, finish_reason } of choices) {
      expect(["length", "stop"]).toContain(finish_reason);
      for (const { token, logprob, bytes, top_logprobs } of logprobs!.content!) {
        expect(Buffer.from(bytes!).toString()).toBe(token);
        expect(logprob).toBeLessThanOrEqual(0);
        expect(top_logprobs).toHaveLength(3);
      }
    }
  });

  it("follow a schema, a switch to JSON, a pattern, a choice and a grammar", async () => {
    const parsed = await client.chat.completions.parse({
      ...{ ...greedy, messages, max_completion_tokens: 60 },
      response_format: {
        type: "json_schema",
        json_schema: { name: "meeting", schema, strict: true },
      },
    });
    expectMeeting(parsed.choices[0]!.message.content);
    expect(parsed.choices[0]!.finish_reason).toBe("stop");
    const textOf = async (fields: object) => {
      const body = { ...greedy, messages, max_completion_tokens: 40, ...fields };
      const answer = await client.chat.completions.create(body as never);
      return (answer as OpenAI.ChatCompletion).choices[0]!.message.content!;
    };
    expect(await textOf({ response_format: { type: "json_object" } })).toMatch(/^\s*\{/);
    const structured = (structured_outputs: object) => textOf({ structured_outputs });
    expect(await structured({ regex: "[0-9]{3}-[a-f]{2}" })).toMatch(/^[0-9]{3}-[a-f]{2}$/);
    expect(["yes", "no"]).toContain(await structured({ choice: ["yes", "no"] }));
    expect(await structured({ grammar: 'root ::= "a" ("b" | "c") "d"' })).toMatch(/^a[bc]d$/);
  });

  it("call a tool that must be called, whole and streamed", async () => {
    const request = {
      ...{ ...greedy, messages, tools, max_completion_tokens: 80 },
      // Else a small model calls again and again.
      parallel_tool_calls: false,
    };
    const whole = await client.chat.completions.create({ ...request, tool_choice: "required" });
    const [choice] = whole.choices;
    expect(choice!.finish_reason).toBe("tool_calls");
    const [call] = choice!.message.tool_calls! as OpenAI.ChatCompletionMessageFunctionToolCall[];
    expect(call).toMatchObject({ type: "function", function: { name: "meet" } });
    expect(call!.id).toMatch(/^chatcmpl-tool-/);
    expectMeeting(call!.function.arguments);
    const streamed = await client.chat.completions
      .stream({ ...request, tool_choice: "required" })
      .finalChatCompletion();
    expect(streamed.choices[0]!.message.tool_calls![0]).toMatchObject({
      function: { name: "meet", arguments: call!.function.arguments },
    });
    const named = await client.chat.completions.create({
      ...request,
      tool_choice: { type: "function", function: { name: "meet" } },
    });
    expect(named.choices[0]!.finish_reason).toBe("stop");
    const [own] = named.choices[0]!.message
      .tool_calls! as OpenAI.ChatCompletionMessageFunctionToolCall[];
    expectMeeting(own!.function.arguments);
    const result = { role: "tool" as const, tool_call_id: call!.id, content: "done" };
    const after = await client.chat.completions.create({
      ...request,
      messages: [...messages, choice!.message, result],
      tool_choice: "none",
    });
    expect(after.choices[0]!.message.tool_calls ?? []).toEqual([]);
  });

  it("may be left in the middle", async () => {
    const stream = client.chat.completions.stream({
      ...{ ...greedy, messages },
      ignore_eos: true,
    });
    let pieces = 0;
    const ended = (async () => {
      for await (const _ of stream) if (++pieces === 3) stream.abort();
    })();
    await expect(ended).rejects.toBeInstanceOf(OpenAI.APIUserAbortError);
    await expect
      .poll(async () => (await fetch(`${server.url}/load`)).json(), { timeout: 60_000 })
      .toEqual({ server_load: 0 });
  });
});

describe("responses", () => {
  const request = { ...greedy, input: "Once upon a time", max_output_tokens: 12 };

  it("answer whole and in events alike", async () => {
    const whole = await client.responses.create({ ...request, instructions: "Be brief." });
    expect(whole.output_text.length).toBeGreaterThan(0);
    expect(whole.usage!.output_tokens).toBeLessThanOrEqual(12);
    const types: string[] = [];
    const stream = client.responses.stream({ ...request, instructions: "Be brief." });
    for await (const { type } of stream) types.push(type);
    expect(types[0]).toBe("response.created");
    expect(types).toContain("response.output_text.delta");
    expect(["response.completed", "response.incomplete"]).toContain(types.at(-1));
    expect((await stream.finalResponse()).output_text).toBe(whole.output_text);
  });

  it("follow a schema and call tools", async () => {
    const format = { type: "json_schema" as const, name: "meeting", schema: { ...schema } };
    const held = await client.responses.create({
      ...{ ...request, max_output_tokens: 60, text: { format } },
    });
    expectMeeting(held.output_text);
    const called = await client.responses.create({
      ...{ ...request, max_output_tokens: 80, tool_choice: "required" },
      tools: [{ type: "function", ...meet, strict: true }],
    });
    const call = called.output.find(({ type }) => type === "function_call");
    expect(call).toMatchObject({ name: "meet", status: "completed" });
    expectMeeting((call as OpenAI.Responses.ResponseFunctionToolCall).arguments);
  });

  it("are not kept, and may be left", async () => {
    const { id } = await client.responses.create(request);
    await expect(client.responses.retrieve(id)).rejects.toBeInstanceOf(OpenAI.NotFoundError);
    await expect(
      client.responses.create({ ...request, previous_response_id: id }),
    ).rejects.toBeInstanceOf(OpenAI.BadRequestError);
    const controller = new AbortController();
    const stream = await client.responses.create(
      { ...request, max_output_tokens: 3000, stream: true },
      { signal: controller.signal },
    );
    for await (const { type } of stream) {
      if (type === "response.output_text.delta") controller.abort();
    }
    await expect
      .poll(async () => (await fetch(`${server.url}/load`)).json(), { timeout: 60_000 })
      .toEqual({ server_load: 0 });
  });
});

describe("messages, as Anthropic's clients send them", () => {
  const body = { model: DEMO_MODEL, max_tokens: 20, messages, temperature: 0 };
  const headers = { "anthropic-version": "2023-06-01", "content-type": "application/json" };
  const post = (path: string, fields: object) =>
    fetch(`${server.url}/v1/messages${path}`, {
      ...{ method: "POST", headers, body: JSON.stringify({ ...body, ...fields }) },
    });

  it("answer whole and in events alike, and count tokens", async () => {
    // biome-ignore lint/suspicious/noExplicitAny: answers are JSON, which tests look into freely
    const whole: any = await (await post("", { system: "Be brief." })).json();
    expect(whole).toMatchObject({ type: "message", role: "assistant", model: DEMO_MODEL });
    expect(["end_turn", "max_tokens"]).toContain(whole.stop_reason);
    const response = await post("", { system: "Be brief.", stream: true });
    expect(response.headers.get("content-type")).toContain("text/event-stream");
    const events = (await response.text()).trim().split("\n\n");
    const data = events.map((event) => JSON.parse(event.replace(/^event: .*\ndata: /, "")));
    expect(data[0]).toMatchObject({ type: "message_start", message: { role: "assistant" } });
    expect(data.at(-1)).toEqual({ type: "message_stop" });
    const text = data.map(({ delta }) => delta?.text ?? "").join("");
    expect(text).toBe(whole.content[0].text);
    const counted = await (await post("/count_tokens", { system: "Be brief." })).json();
    expect(counted).toEqual({ input_tokens: whole.usage.input_tokens });
  });

  it("call a tool that must be called, and refuse in Anthropic's shape", async () => {
    const tool = { name: "meet", description: "Meets somebody.", input_schema: schema };
    const fields = { tools: [tool], tool_choice: { type: "tool", name: "meet" }, max_tokens: 80 };
    // biome-ignore lint/suspicious/noExplicitAny: answers are JSON, which tests look into freely
    const { content }: any = await (await post("", fields)).json();
    const use = content.find(({ type }: { type: string }) => type === "tool_use");
    expect(use.name).toBe("meet");
    expectMeeting(JSON.stringify(use.input));
    const refused = await post("", { max_tokens: "many" });
    expect(refused.status).toBe(400);
    expect(await refused.json()).toMatchObject({
      type: "error",
      error: { message: expect.any(String) },
    });
  });
});
