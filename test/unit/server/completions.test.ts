import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { specialIds } from "./byte-tokenizer.js";
import { Harness, type JsonObject, MODEL } from "./harness.js";
import { STORY } from "./scripted-executor.js";

let server: Harness;

beforeAll(async () => {
  server = await Harness.start();
});
afterAll(() => server.close());
beforeEach(() => {
  server.executor.seen.length = 0;
});

const PATH = "/v1/completions";
const bytes = (text: string) => [...Buffer.from(text)];

describe("the answer in one piece", () => {
  it("has every field of vLLM's, nulls included", async () => {
    const { status, body } = await server.ask(PATH, {
      model: MODEL,
      prompt: "Say on.",
      max_tokens: 9,
      temperature: 0,
    });
    expect(status).toBe(200);
    expect(body.id).toMatch(/^cmpl-[0-9a-f]{32}$/);
    expect(Math.abs(body.created - Date.now() / 1000)).toBeLessThan(5);
    expect(body).toEqual({
      id: body.id,
      object: "text_completion",
      created: body.created,
      model: MODEL,
      choices: [
        {
          index: 0,
          text: "The quick",
          logprobs: null,
          finish_reason: "length",
          stop_reason: null,
          token_ids: null,
          prompt_logprobs: null,
          prompt_token_ids: null,
        },
      ],
      service_tier: null,
      system_fingerprint: null,
      usage: {
        prompt_tokens: 7,
        total_tokens: 16,
        completion_tokens: 9,
        prompt_tokens_details: { cached_tokens: 0 },
      },
      kv_transfer_params: null,
    });
  });

  it("generates 16 tokens when max_tokens is absent or null, fewer when the context is short", async () => {
    for (const body of [{ prompt: "x" }, { prompt: "x", max_tokens: null }]) {
      const answer = await server.ask(PATH, body);
      expect(answer.body.choices[0].text).toBe(STORY.slice(0, 16));
    }
    const long = await server.ask(PATH, { prompt: "x".repeat(510) });
    expect(long.body.usage.completion_tokens).toBe(2);
  });

  it("ends at EOS without its text, and goes on with ignore_eos", async () => {
    server.executor.script = (k) => (k === 3 ? specialIds.imEnd : 97 + k);
    const ended = await server.ask(PATH, { prompt: "x" });
    expect(ended.body.choices[0]).toMatchObject({ text: "abc", finish_reason: "stop" });
    expect(ended.body.choices[0].stop_reason).toBeNull();
    expect(ended.body.usage.completion_tokens).toBe(4);
    const ignored = await server.ask(PATH, { prompt: "x", ignore_eos: true, max_tokens: 6 });
    expect(ignored.body.choices[0]).toMatchObject({ text: "abcef", finish_reason: "length" });
    server.executor.script = (k) => STORY.charCodeAt(k % STORY.length);
  });

  it("stops at a string or token id and says which", async () => {
    const string = await server.ask(PATH, {
      prompt: "x",
      stop: ["never", "brown"],
      max_tokens: 50,
    });
    expect(string.body.choices[0]).toMatchObject({
      text: "The quick ",
      finish_reason: "stop",
      stop_reason: "brown",
    });
    const kept = await server.ask(PATH, {
      prompt: "x",
      stop: "brown",
      max_tokens: 50,
      include_stop_str_in_output: true,
    });
    expect(kept.body.choices[0].text).toBe("The quick brown");
    const token = await server.ask(PATH, { prompt: "x", stop_token_ids: [bytes("q")[0]] });
    expect(token.body.choices[0]).toMatchObject({ text: "The ", stop_reason: bytes("q")[0] });
  });

  it("hands every sampling field to the engine", async () => {
    await server.ask(PATH, {
      prompt: "x",
      temperature: 0.5,
      top_p: "0.9",
      top_k: 7,
      min_p: 0.1,
      presence_penalty: 0.2,
      frequency_penalty: 0.3,
      repetition_penalty: 1.1,
      seed: 42,
      max_tokens: 3,
      min_tokens: 2,
      stop_token_ids: [5],
      ignore_eos: true,
      logit_bias: { "65": -150, "66": 1.5 },
      allowed_token_ids: [65, 66],
    });
    expect(server.executor.seen.at(-1)?.sampling).toMatchObject({
      temperature: 0.5,
      topP: 0.9,
      topK: 7,
      minP: 0.1,
      presencePenalty: 0.2,
      frequencyPenalty: 0.3,
      repetitionPenalty: 1.1,
      seed: 42,
      maxTokens: 3,
      minTokens: 2,
      stopTokenIds: [5],
      ignoreEos: true,
      logitBias: { 65: -100, 66: 1.5 },
      allowedTokenIds: [65, 66],
    });
  });

  it("takes every form of prompt", async () => {
    const prompts = ["ab", ["ab", "cd"], bytes("ab"), [bytes("ab"), bytes("cde")]];
    const seen = [];
    for (const prompt of prompts) {
      server.executor.seen.length = 0;
      const { status } = await server.ask(PATH, { prompt, max_tokens: 1 });
      expect(status).toBe(200);
      seen.push(server.executor.seen.map((sequence) => [...sequence.promptTokenIds]));
    }
    expect(seen).toEqual([
      [bytes("ab")],
      [bytes("ab"), bytes("cd")],
      [bytes("ab")],
      [bytes("ab"), bytes("cde")],
    ]);
  });

  it("numbers choices prompt by prompt and sums usage", async () => {
    server.executor.script = (k, { promptTokenIds, sampling }) =>
      k === 0 ? promptTokenIds[0]! : 48 + (sampling.seed ?? 0);
    const { body } = await server.ask(PATH, {
      prompt: ["a", "bb", "ccc"],
      n: 2,
      seed: 3,
      max_tokens: 2,
    });
    const texts = body.choices.map((choice: JsonObject) => [choice.index, choice.text]);
    expect(texts).toEqual([
      [0, "a3"],
      [1, "a4"],
      [2, "b3"],
      [3, "b4"],
      [4, "c3"],
      [5, "c4"],
    ]);
    expect(body.usage).toMatchObject({ prompt_tokens: 6, completion_tokens: 12, total_tokens: 18 });
    server.executor.script = (k) => STORY.charCodeAt(k % STORY.length);
  });

  it("truncates prompts to their last tokens", async () => {
    for (const prompt of ["abcdef", bytes("abcdef")]) {
      await server.ask(PATH, { prompt, truncate_prompt_tokens: 2, max_tokens: 1 });
      expect([...server.executor.seen.at(-1)!.promptTokenIds]).toEqual(bytes("ef"));
    }
    const fitted = await server.ask(PATH, {
      prompt: "x".repeat(600),
      truncate_prompt_tokens: -1,
      max_tokens: 12,
    });
    expect(fitted.body.usage).toMatchObject({ prompt_tokens: 500, completion_tokens: 12 });
    const echoed = await server.ask(PATH, {
      prompt: "abcdef",
      truncate_prompt_tokens: 2,
      max_tokens: 1,
      echo: true,
    });
    expect(echoed.body.choices[0].text).toBe("efT");
  });

  it("names the response by X-Request-Id, else by request_id", async () => {
    const body = { prompt: "x", request_id: "from-body" };
    const named = await server.ask(PATH, body);
    expect(named.body.id).toBe("cmpl-from-body");
    const response = await server.post(PATH, body, { "X-Request-Id": "from-header" });
    expect(((await response.json()) as JsonObject).id).toBe("cmpl-from-header");
  });

  it("ignores fields it does not know, and knows all served names", async () => {
    const { status, body } = await server.ask(PATH, { prompt: "x", model: "alias", frobnicate: 1 });
    expect(status).toBe(200);
    expect(body.model).toBe(MODEL);
    expect((await server.ask(PATH, { prompt: "x", model: "" })).status).toBe(200);
  });
});

describe("logprobs and echo", () => {
  it("gives tokens, offsets and rivals, the token itself first", async () => {
    const { body } = await server.ask(PATH, { prompt: "x", max_tokens: 3, logprobs: 2 });
    expect(body.choices[0].logprobs).toEqual({
      text_offset: [0, 1, 2],
      token_logprobs: [-0.5, -0.5, -0.5],
      tokens: ["T", "h", "e"],
      top_logprobs: [
        { T: -0.5, "\u0001": -1 },
        { h: -0.5, "\u0001": -1 },
        { e: -0.5, "\u0001": -1 },
      ],
    });
    const sampledOnly = await server.ask(PATH, { prompt: "x", max_tokens: 1, logprobs: 0 });
    expect(sampledOnly.body.choices[0].logprobs.top_logprobs).toEqual([{ T: -0.5 }]);
  });

  it("echoes the prompt with its logprobs before the text", async () => {
    const { body } = await server.ask(PATH, {
      prompt: "ab",
      max_tokens: 2,
      logprobs: 1,
      echo: true,
    });
    expect(body.choices[0].text).toBe("abTh");
    expect(body.choices[0].logprobs).toEqual({
      text_offset: [0, 1, 2, 3],
      token_logprobs: [null, -0.5, -0.5, -0.5],
      tokens: ["a", "b", "T", "h"],
      top_logprobs: [null, { b: -0.5 }, { T: -0.5 }, { h: -0.5 }],
    });
  });

  it("scores a prompt without generating under max_tokens 0 and echo", async () => {
    const { body } = await server.ask(PATH, {
      prompt: ["ab", "cd"],
      max_tokens: 0,
      logprobs: 0,
      echo: true,
      n: 2,
    });
    expect(body.choices.map((choice: JsonObject) => choice.text)).toEqual(["ab", "ab", "cd", "cd"]);
    for (const choice of body.choices) {
      expect(choice.logprobs.token_logprobs).toEqual([null, -0.5]);
    }
    expect(body.usage).toMatchObject({ prompt_tokens: 4, completion_tokens: 0, total_tokens: 4 });
    const refused = await server.ask(PATH, { prompt: "ab", max_tokens: 0 });
    expect(refused.status).toBe(400);
    expect(refused.body.error.message).toBe(
      "max_tokens must be at least 1, got 0. (parameter=max_tokens, value=0)",
    );
  });

  it("gives prompt_logprobs by token id", async () => {
    const { body } = await server.ask(PATH, { prompt: "ab", max_tokens: 1, prompt_logprobs: 2 });
    expect(body.choices[0].prompt_logprobs).toEqual([
      null,
      {
        "1": { logprob: -1, rank: 2, decoded_token: "\u0001" },
        "98": { logprob: -0.5, rank: 1, decoded_token: "b" },
      },
    ]);
  });

  it("returns token ids, and names tokens by id, on request", async () => {
    const { body } = await server.ask(PATH, {
      prompt: "ab",
      max_tokens: 2,
      logprobs: 0,
      return_token_ids: true,
      return_tokens_as_token_ids: true,
    });
    expect(body.choices[0]).toMatchObject({
      token_ids: bytes("Th"),
      prompt_token_ids: bytes("ab"),
      logprobs: { tokens: ["token_id:84", "token_id:104"] },
    });
  });
});

describe("the stream", () => {
  it("has vLLM's bytes", async () => {
    const events = await server.events(PATH, {
      prompt: "x",
      max_tokens: 2,
      request_id: "abc",
      stream_options: { include_usage: true },
    });
    const created = JSON.parse(events[0]!).created;
    const head = `"id":"cmpl-abc","object":"text_completion","created":${created},"model":"${MODEL}"`;
    const rest = `"stop_reason":null,"prompt_token_ids":null,"token_ids":null}],"usage":null}`;
    expect(events).toEqual([
      `{${head},"choices":[{"index":0,"text":"T","logprobs":null,"finish_reason":null,${rest}`,
      `{${head},"choices":[{"index":0,"text":"h","logprobs":null,"finish_reason":"length",${rest}`,
      `{${head},"choices":[],"usage":{"prompt_tokens":1,"total_tokens":3,"completion_tokens":2,"prompt_tokens_details":{"cached_tokens":0}}}`,
      "[DONE]",
    ]);
  });

  it("is served as an event stream that proxies do not hold back", async () => {
    const response = await server.post(PATH, { prompt: "x", stream: true });
    expect(response.headers.get("content-type")).toBe("text/event-stream; charset=utf-8");
    expect(response.headers.get("cache-control")).toBe("no-cache");
    await response.text();
  });

  it("adds up to the whole answer, for several prompts and sequences", async () => {
    const request = { prompt: ["ab", "c"], n: 2, max_tokens: 8, logprobs: 1, echo: true, seed: 1 };
    const whole = (await server.ask(PATH, request)).body;
    const events = await server.events(PATH, request);
    expect(events.pop()).toBe("[DONE]");
    const merged = whole.choices.map(() => ({
      text: "",
      tokens: [] as string[],
      text_offset: [] as number[],
      token_logprobs: [] as number[],
      finish_reason: null,
    }));
    for (const event of events) {
      const [choice] = JSON.parse(event).choices;
      const into = merged[choice.index];
      into.text += choice.text;
      into.tokens.push(...choice.logprobs.tokens);
      into.text_offset.push(...choice.logprobs.text_offset);
      into.token_logprobs.push(...choice.logprobs.token_logprobs);
      into.finish_reason = choice.finish_reason;
    }
    expect(merged).toEqual(
      whole.choices.map(({ text, logprobs, finish_reason }: JsonObject) => ({
        text,
        tokens: logprobs.tokens,
        text_offset: logprobs.text_offset,
        token_logprobs: logprobs.token_logprobs,
        finish_reason,
      })),
    );
  });

  it("never sends half a character", async () => {
    const text = "naïve 東京 🦊!";
    const story = bytes(text);
    server.executor.script = (k) => story[k] ?? specialIds.imEnd;
    const events = await server.events(PATH, { prompt: "x", max_tokens: 40 });
    const parts = events.slice(0, -1).map((event) => JSON.parse(event).choices[0].text);
    expect(parts.join("")).toBe(text);
    for (const part of parts) expect(part).not.toContain("\ufffd");
    server.executor.script = (k) => STORY.charCodeAt(k % STORY.length);
  });

  it("carries usage on every part on request", async () => {
    const events = await server.events(PATH, {
      prompt: "x",
      max_tokens: 3,
      stream_options: { include_usage: true, continuous_usage_stats: true },
    });
    const counts = events.slice(0, -1).map((event) => JSON.parse(event).usage.completion_tokens);
    expect(counts).toEqual([1, 2, 3, 3]);
  });

  it("returns token ids, the prompt's with the first part", async () => {
    const events = await server.events(PATH, {
      prompt: "ab",
      max_tokens: 2,
      return_token_ids: true,
    });
    const choices = events.slice(0, -1).map((event) => JSON.parse(event).choices[0]);
    expect(choices.map((choice) => choice.prompt_token_ids)).toEqual([bytes("ab"), null]);
    expect(choices.map((choice) => choice.token_ids)).toEqual([bytes("T"), bytes("h")]);
  });
});
