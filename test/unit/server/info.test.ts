import { afterEach, describe, expect, it } from "vitest";
import { Harness, type JsonObject, MODEL, until } from "./harness.js";

let server: Harness;

afterEach(() => server.close());

async function get(path: string): Promise<JsonObject> {
  return (await fetch(server.url + path)).json();
}

const bytes = (text: string) => [...Buffer.from(text)];

describe("what is served", () => {
  it("has a card per name", async () => {
    server = await Harness.start();
    const { object, data } = await get("/v1/models");
    expect(object).toBe("list");
    expect(data.map((card: JsonObject) => card.id)).toEqual([MODEL, "alias"]);
    expect(data[0]).toMatchObject({
      object: "model",
      root: MODEL,
      parent: null,
      max_model_len: 512,
      permission: [{ object: "model_permission", allow_sampling: true, is_blocking: false }],
    });
    expect(data[0].permission[0].id).toMatch(/^modelperm-[0-9a-f]{32}$/);
  });

  it("tells version and health", async () => {
    server = await Harness.start();
    expect(await get("/version")).toEqual({ version: "1.2.3" });
    for (const [path, method] of [
      ["/health", "GET"],
      ["/ping", "GET"],
      ["/ping", "POST"],
    ]) {
      const response = await fetch(server.url + path, { method: method! });
      expect(response.status).toBe(200);
      expect(await response.text()).toBe("");
    }
  });

  it("counts its load when asked to", async () => {
    server = await Harness.start({ options: { enableServerLoadTracking: true } });
    server.executor.stepMs = 10;
    const running = server.ask("/v1/completions", { prompt: "x", max_tokens: 30 });
    const streamed = server.events("/v1/completions", { prompt: "x", max_tokens: 30 });
    await until(() => server.engine.stats().running === 2);
    expect(await get("/load")).toEqual({ server_load: 2 });
    await Promise.all([running, streamed]);
    expect(await get("/load")).toEqual({ server_load: 0 });
    await server.close();
    server = await Harness.start();
    expect(await get("/load")).toEqual({ server_load: 0 });
  });
});

describe("/tokenize and /detokenize", () => {
  it("turn text into tokens and back", async () => {
    server = await Harness.start();
    const { body } = await server.ask("/tokenize", { prompt: "a é" });
    expect(body).toEqual({
      count: 4,
      max_model_len: 512,
      tokens: bytes("a é"),
      token_strs: null,
    });
    const back = await server.ask("/detokenize", { model: MODEL, tokens: body.tokens });
    expect(back.body).toEqual({ prompt: "a é" });
    const named = await server.ask("/tokenize", { prompt: "a b", return_token_strs: true });
    expect(named.body.token_strs).toEqual(["a", "Ġ", "b"]);
  });

  it("render messages", async () => {
    server = await Harness.start();
    const { body } = await server.ask("/tokenize", {
      messages: [{ role: "user", content: "Hi" }],
      add_generation_prompt: false,
    });
    expect(server.tokenizer.decode(body.tokens)).toBe("<|im_start|>user\nHi<|im_end|>\n");
  });

  it("refuse what they cannot", async () => {
    server = await Harness.start();
    const cases: [string, object, number, string][] = [
      ["/tokenize", {}, 400, "Field required"],
      ["/tokenize", { prompt: 5 }, 400, "Input should be a valid string"],
      ["/tokenize", { prompt: "x", model: "other" }, 404, "does not exist"],
      ["/tokenize", { messages: [] }, 400, "at least one message"],
      ["/tokenize", { prompt: "x".repeat(1_100_000) }, 400, "more than the 1048576 that"],
      ["/detokenize", { tokens: [1, 99_999] }, 400, "Token id 99999 is out of vocabulary"],
      ["/detokenize", { tokens: ["x"] }, 400, "the item at 0 is not"],
    ];
    for (const [path, request, status, message] of cases) {
      const answer = await server.ask(path, request);
      expect([answer.status, answer.body.error.message]).toEqual([
        status,
        expect.stringContaining(message),
      ]);
    }
  });
});

describe("without a tokenizer", () => {
  it("token ids go in and come out", async () => {
    server = await Harness.start({ withTokenizer: false });
    const { status, body } = await server.ask("/v1/completions", {
      prompt: [1, 2, 3],
      max_tokens: 3,
      logprobs: 1,
      echo: true,
    });
    expect(status).toBe(200);
    expect(body.choices[0]).toMatchObject({
      text: "",
      token_ids: bytes("The"),
      prompt_token_ids: [1, 2, 3],
    });
    expect(body.choices[0].logprobs.tokens).toEqual([
      "token_id:1",
      "token_id:2",
      "token_id:3",
      ...bytes("The").map((id) => `token_id:${id}`),
    ]);
    const events = await server.events("/v1/completions", { prompt: [[1], [2]], max_tokens: 2 });
    const choices = events.slice(0, -1).map((event) => JSON.parse(event).choices[0]);
    expect(choices.map(({ index, token_ids }: JsonObject) => [index, token_ids])).toEqual([
      [0, bytes("T")],
      [1, bytes("T")],
      [0, bytes("h")],
      [1, bytes("h")],
    ]);
  });

  it("text is refused with a way out", async () => {
    server = await Harness.start({ withTokenizer: false });
    const messages = [{ role: "user", content: "x" }];
    for (const [path, request] of [
      ["/v1/completions", { prompt: "x" }],
      ["/v1/completions", { prompt: [1], stop: "x" }],
      ["/v1/chat/completions", { messages }],
      ["/tokenize", { prompt: "x" }],
      ["/detokenize", { tokens: [1] }],
    ] as const) {
      const { status, body } = await server.ask(path, request);
      expect([path, status]).toEqual([path, 400]);
      expect(body.error.message).toMatch(/token/);
    }
  });
});
