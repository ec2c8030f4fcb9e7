import { execa } from "execa";
import OpenAI from "openai";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { DEMO_MODEL, ServeProcess } from "./serving.js";

const greedy = { model: DEMO_MODEL, temperature: 0 } as const;
const PROMPT = "It was a bright cold day, and the old man said to the boy:";

describe("ucm serve of the demo model", () => {
  let server: ServeProcess;
  let client: OpenAI;

  beforeAll(async () => {
    server = await ServeProcess.start(["--enable-server-load-tracking"]);
    client = server.client();
  });
  afterAll(() => server?.destroy());

  it("prints uvicorn's three lines in their order, each a whole line", () => {
    const { pid } = server.process;
    const positions = [
      `INFO:     Started server process [${pid}]`,
      "INFO:     Waiting for application startup.",
      "INFO:     Application startup complete.",
    ].map((line) => server.lines.indexOf(line));
    expect(positions[0]).toBeGreaterThan(-1);
    expect(positions).toEqual([positions[0], positions[0]! + 1, positions[0]! + 2]);
  });

  it("answers the curl command of the manual", async () => {
    const body = `{
        "model": "${DEMO_MODEL}",
        "prompt": "PUT A LONG PROMPT HERE TO SEE ACCELERATION EFFECTS.",
        "max_tokens": 100,
        "temperature": 0
    }`;
    const { stdout } = await execa("curl", [
      "-sS",
      `http://localhost:${server.port}/v1/completions`,
      "-H",
      "Content-Type: application/json",
      "-d",
      body,
    ]);
    const answer = JSON.parse(stdout);
    expect(answer).toMatchObject({ object: "text_completion", model: DEMO_MODEL });
    expect(answer.choices[0].text.length).toBeGreaterThan(0);
    expect(answer.usage.completion_tokens).toBeGreaterThan(0);
    expect(answer.usage.completion_tokens).toBeLessThanOrEqual(100);
  });

  it("lists the model and tells its health and version", async () => {
    const { data } = await client.models.list();
    expect(data.map((model) => model.id)).toEqual([DEMO_MODEL]);
    expect((await fetch(`${server.url}/health`)).status).toBe(200);
    expect(await (await fetch(`${server.url}/version`)).json()).toEqual({
      version: expect.stringMatching(/^\d+\.\d+\.\d+/),
    });
  });

  it("gives the same greedy text whole, streamed, beside others and from token ids", async () => {
    const request = { ...greedy, prompt: PROMPT, max_tokens: 32 };
    const whole = await client.completions.create(request);
    const text = whole.choices[0]?.text;
    expect(text?.length).toBeGreaterThan(0);

    let streamed = "";
    let usage: OpenAI.CompletionUsage | undefined;
    const stream = await client.completions.create({
      ...request,
      stream: true,
      stream_options: { include_usage: true },
    });
    for await (const part of stream) {
      streamed += part.choices[0]?.text ?? "";
      usage = part.usage ?? usage;
    }
    expect(streamed).toBe(text);
    expect(usage).toEqual(whole.usage);

    const others = Array.from({ length: 6 }, (_, i) => `${i} ${PROMPT} `.repeat(i + 1));
    const together = await client.completions.create({ ...request, prompt: [...others, PROMPT] });
    expect(together.choices.map((choice) => choice.index)).toEqual([0, 1, 2, 3, 4, 5, 6]);
    expect(together.choices[6]?.text).toBe(text);

    const { tokens } = await post(server, "/tokenize", { prompt: PROMPT });
    const fromIds = await client.completions.create({ ...request, prompt: tokens });
    expect(fromIds.choices[0]?.text).toBe(text);
    expect((await post(server, "/detokenize", { tokens })).prompt).toBe(PROMPT);
  });

  it("computes the beginning of a prompt once per salt, and answers the same", async () => {
    const answer = async (cache_salt: string) => {
      const body = { ...greedy, prompt: `${PROMPT} `.repeat(8), max_tokens: 8, cache_salt };
      const { choices, usage } = await post(server, "/v1/completions", body);
      return { text: choices[0].text, usage };
    };
    const cold = await answer("a");
    const warm = await answer("a");
    const wholeBlocks = Math.floor((cold.usage.prompt_tokens - 1) / 16) * 16;
    expect(wholeBlocks).toBeGreaterThan(16);
    expect(cold.usage.prompt_tokens_details).toEqual({ cached_tokens: 0 });
    expect(warm.usage.prompt_tokens_details).toEqual({ cached_tokens: wholeBlocks });
    expect(await answer("b")).toEqual(cold);
    expect(warm.text).toBe(cold.text);
  });

  it("scores a token the same, to the bit, in decoding and in a prompt", async () => {
    const fields = { ...greedy, logprobs: 1, echo: true, return_token_ids: true };
    const generated = await post(server, "/v1/completions", {
      ...fields,
      prompt: PROMPT,
      max_tokens: 16,
    });
    const [{ prompt_token_ids, token_ids, logprobs }] = generated.choices;
    expect(logprobs.token_logprobs[0]).toBeNull();
    expect(logprobs.token_logprobs).toHaveLength(prompt_token_ids.length + token_ids.length);
    const scored = await post(server, "/v1/completions", {
      ...fields,
      prompt: [...prompt_token_ids, ...token_ids],
      max_tokens: 0,
    });
    expect(scored.choices[0].logprobs).toEqual(logprobs);
    expect(scored.usage.completion_tokens).toBe(0);
  });

  it("draws n sequences that a seed repeats", async () => {
    const sampling = { max_tokens: 12, temperature: 1, n: 3, seed: 7 };
    const request = { model: DEMO_MODEL, prompt: PROMPT, ...sampling };
    const [first, second] = await Promise.all([
      client.completions.create(request),
      client.completions.create(request),
    ]);
    const texts = first.choices.map((choice) => choice.text);
    expect(new Set(texts).size).toBeGreaterThan(1);
    expect(second.choices.map((choice) => choice.text)).toEqual(texts);
  });

  it("chats", async () => {
    const request = {
      ...greedy,
      messages: [{ role: "user" as const, content: "Good morning to you." }],
      max_completion_tokens: 24,
    };
    const whole = await client.chat.completions.create(request);
    expect(whole.choices[0]?.message.role).toBe("assistant");
    const streamed = await client.chat.completions.stream(request).finalChatCompletion();
    expect(streamed.choices[0]?.message.content).toBe(whole.choices[0]?.message.content);
  });

  it("refuses what it must with the client's error classes", async () => {
    const { completions } = client;
    await expect(completions.create({ model: "gpt-4", prompt: "x" })).rejects.toBeInstanceOf(
      OpenAI.NotFoundError,
    );
    await expect(
      completions.create({ ...greedy, prompt: "word ".repeat(100_000), stream: true }),
    ).rejects.toMatchObject({
      status: 400,
      message: expect.stringContaining("maximum context length is"),
    });
  });

  it("drops the work of a client that leaves", async () => {
    const controller = new AbortController();
    const stream = await client.completions.create(
      { ...greedy, prompt: PROMPT, max_tokens: 20_000, stream: true },
      { signal: controller.signal },
    );
    for await (const _ of stream) break;
    controller.abort();
    await expect
      .poll(async () => (await fetch(`${server.url}/load`)).json(), { timeout: 60_000 })
      .toEqual({ server_load: 0 });
    const { usage } = await client.completions.create({ ...greedy, prompt: "x", max_tokens: 1 });
    expect(usage?.completion_tokens).toBe(1);
  });

  it("writes uvicorn's access lines", () => {
    expect(server.lines).toContainEqual(
      expect.stringMatching(
        /^INFO: {5}127\.0\.0\.1:\d+ - "POST \/v1\/completions HTTP\/1\.1" 200 OK$/,
      ),
    );
    expect(server.lines).toContainEqual(
      expect.stringMatching(/^INFO: {5}127\.0\.0\.1:\d+ - "GET \/health HTTP\/1\.1" 200 OK$/),
    );
  });
});

describe("ucm serve with other flags", () => {
  let server: ServeProcess;

  afterEach(() => server?.destroy());

  it("finishes what runs on SIGTERM and exits with 0", async () => {
    server = await ServeProcess.start();
    const stream = await server.client().completions.create({
      ...greedy,
      prompt: PROMPT,
      max_tokens: 300,
      stream: true,
      stream_options: { include_usage: true },
      // @ts-expect-error a field of vLLM's
      ignore_eos: true,
    });
    let exit: Promise<number | undefined> | null = null;
    let tokens = 0;
    for await (const part of stream) {
      exit ??= server.terminate();
      tokens = part.usage?.completion_tokens ?? tokens;
    }
    expect(tokens).toBe(300);
    expect(await exit).toBe(0);
    await expect(fetch(`${server.url}/health`)).rejects.toThrow();
    const closing = ["Shutting down", "Waiting for application shutdown."];
    for (const line of [...closing, "Application shutdown complete."]) {
      expect(server.lines).toContain(`INFO:     ${line}`);
    }
  });

  it("serves token ids without a tokenizer", async () => {
    server = await ServeProcess.start(["--skip-tokenizer-init"]);
    const body = { prompt: [5, 6, 7], max_tokens: 4, temperature: 0, ignore_eos: true };
    const { choices } = await post(server, "/v1/completions", body);
    expect(choices[0].text).toBe("");
    expect(choices[0].token_ids).toHaveLength(4);
    const refused = await post(server, "/v1/completions", { prompt: "text" });
    expect(refused.error.message).toContain("--skip-tokenizer-init");
  });

  it("asks for a key when it has some, and goes by other names", async () => {
    server = await ServeProcess.start([
      ...["--api-key", "one", "two"],
      ...["--served-model-name", "demo", "other"],
    ]);
    await expect(server.client("three").models.list()).rejects.toBeInstanceOf(
      OpenAI.AuthenticationError,
    );
    for (const key of ["one", "two"]) {
      const { data } = await server.client(key).models.list();
      expect(data.map((model) => model.id)).toEqual(["demo", "other"]);
    }
    const answer = await server
      .client("one")
      .completions.create({ model: "other", prompt: "x", max_tokens: 1 });
    expect(answer.model).toBe("demo");
  });
});

// biome-ignore lint/suspicious/noExplicitAny: answers are JSON, which tests look into freely
async function post(server: ServeProcess, path: string, body: object): Promise<any> {
  const response = await fetch(server.url + path, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(body),
  });
  return response.json();
}
