import net from "node:net";
import OpenAI from "openai";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { UcmError } from "../../../src/errors/index.js";
import { Harness, MODEL, until } from "./harness.js";

let server: Harness;

beforeAll(async () => {
  server = await Harness.start({ options: { bodyLimitBytes: 100_000 } });
});
afterAll(() => server.close());

const PATH = "/v1/completions";

describe("bodies", () => {
  const cases: [string, unknown, string, string | null][] = [
    [
      "a word for a number",
      { prompt: "x", temperature: "hot" },
      "1 validation error:\n  {'type': 'float_parsing', 'loc': ('body', 'temperature'), 'msg': " +
        "'Input should be a valid number, unable to parse string as a number', 'input': 'hot'}",
      "temperature",
    ],
    [
      "several problems",
      { prompt: "x", n: 1.5, stream: [], stop: ["a", 7] },
      "3 validation errors:\n" +
        "  {'type': 'int_from_float', 'loc': ('body', 'n'), 'msg': 'Input should be a valid integer, " +
        "got a number with a fractional part', 'input': 1.5}\n" +
        "  {'type': 'string_type', 'loc': ('body', 'stop', 1), 'msg': 'Input should be a valid string', 'input': 7}\n" +
        "  {'type': 'bool_type', 'loc': ('body', 'stream'), 'msg': 'Input should be a valid boolean', 'input': []}",
      "n",
    ],
    [
      "no object",
      [1, 2],
      "1 validation error:\n  {'type': 'model_attributes_type', 'loc': ('body',), 'msg': 'Input should " +
        "be a valid dictionary or object to extract fields from', 'input': [1, 2]}",
      null,
    ],
    [
      "nothing",
      "",
      "1 validation error:\n  {'type': 'missing', 'loc': ('body',), 'msg': 'Field required', 'input': None}",
      null,
    ],
  ];
  it.each(cases)("%s", async (_name, request, message, param) => {
    const { status, body } = await server.ask(PATH, request);
    expect(status).toBe(400);
    expect(body).toEqual({ error: { message, type: "Bad Request", param, code: 400 } });
  });

  it("that are no JSON say where", async () => {
    const { status, body } = await server.ask(PATH, '{"prompt": x}');
    expect(status).toBe(400);
    expect(body.error.message).toContain("'type': 'json_invalid', 'loc': ('body', ");
    expect(body.error.message).toContain("JSON decode error");
  });

  it("that are no UTF-8 are refused, not mended", async () => {
    const response = await fetch(server.url + PATH, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: Buffer.concat([Buffer.from('{"prompt":"'), Buffer.from([0xff]), Buffer.from('"}')]),
    });
    expect(response.status).toBe(400);
    expect(await response.text()).toContain("not valid UTF-8");
  });

  it("of another type are refused", async () => {
    for (const type of ["text/plain", "application/x-www-form-urlencoded", ""]) {
      const response = await server.post(PATH, { prompt: "x" }, { "content-type": type });
      expect(response.status).toBe(400);
      expect(((await response.json()) as { error: object }).error).toMatchObject({
        message: "Unsupported Media Type: Only 'application/json' is allowed",
        type: "Bad Request",
      });
    }
    const withCharset = { "content-type": "Application/JSON; charset=utf-8" };
    expect((await server.post(PATH, { prompt: "x" }, withCharset)).status).toBe(200);
  });

  it("above the limit are refused with 413", async () => {
    const { status, body } = await server.ask(PATH, { prompt: "x".repeat(200_000) });
    expect(status).toBe(413);
    expect(body.error).toMatchObject({ type: "Request Entity Too Large", code: 413 });
    expect(body.error.message).toContain("100000 bytes");
  });
});

describe("requests that cannot be", () => {
  const cases: [string, object, string][] = [
    ["no prompt", {}, "Either prompt or prompt_embeds must be provided and non-empty."],
    ["an empty prompt", { prompt: "" }, "Either prompt or prompt_embeds must be provided"],
    ["an empty list", { prompt: [] }, "please provide at least one prompt"],
    ["an empty prompt in a list", { prompt: ["x", ""] }, "must be provided and non-empty"],
    ["mixed prompts", { prompt: ["x", [1]] }, "Input should be a string, a list of strings"],
    ["negative ids", { prompt: [1, -1] }, "the item at 1 is not"],
    ["unknown ids", { prompt: [1, 99_999] }, "Token id 99999 is out of vocabulary"],
    ["suffix", { prompt: "x", suffix: "y" }, "suffix is not currently supported"],
    [
      "stream_options without stream",
      { prompt: "x", stream_options: { include_usage: true } },
      "Stream options can only be defined when `stream=True`.",
    ],
    [
      "prompt_logprobs in a stream",
      { prompt: "x", stream: true, prompt_logprobs: 1 },
      "`prompt_logprobs` are not available when `stream=True`.",
    ],
    ["cache_salt empty", { prompt: "x", cache_salt: "" }, "must be a non-empty string"],
    ["best_of", { prompt: "x", best_of: 2 }, "best_of greater than n is not supported"],
    ["beam search", { prompt: "x", use_beam_search: true }, "use_beam_search is not supported"],
    ["no sequence", { prompt: "x", n: 0 }, "n must be at least 1, got 0."],
    ["too many sequences", { prompt: "x", n: 1e9 }, "less than or equal to 1024"],
    ["too many in all", { prompt: ["x", "y", "z", "a", "b"], n: 1024 }, "at most 4096, got 5120"],
    ["too many prompts", { prompt: Array(1025).fill("x") }, "at most 1024 prompts, not 1025"],
    ["too many stops", { prompt: "x", stop: Array(65).fill("y") }, "at most 64 items"],
    ["an empty stop", { prompt: "x", stop: "" }, "stop cannot contain an empty string."],
    ["logprobs above the cap", { prompt: "x", logprobs: 50 }, "greater than max allowed: 20"],
    ["a bias of no token", { prompt: "x", logit_bias: { x: 1 } }, "map token ids to numbers"],
    [
      "truncation above the context",
      { prompt: "x", truncate_prompt_tokens: 513 },
      "is greater than max_model_len (512)",
    ],
    [
      "more than the context",
      { prompt: "x".repeat(510), max_tokens: 10 },
      "This model's maximum context length is 512 tokens. However, you requested 10 output tokens and",
    ],
    [
      "text far above the context",
      { prompt: "x".repeat(90_000), max_tokens: 10 },
      "your prompt contains at least 503 input tokens, for a total of at least 513 tokens",
    ],
  ];
  it.each(cases)("%s", async (_name, request, message) => {
    const { status, body } = await server.ask(PATH, request);
    expect(body.error.message).toContain(message);
    expect(status).toBe(400);
    expect(body.error.code).toBe(400);
  });
});

describe("text far above the context", () => {
  it("is refused while others are served", async () => {
    const roomy = await Harness.start({ model: { maxModelLen: 1_000_000 } });
    const prompt = "x".repeat(20_000_000);
    let isRefused = false;
    const refused = roomy.ask(PATH, { prompt, max_tokens: 1 }).then((answer) => {
      isRefused = true;
      expect(answer.status).toBe(400);
      expect(answer.body.error.message).toContain("at least 1000000 input tokens");
    });
    let served = 0;
    for (; !isRefused; served++) await fetch(`${roomy.url}/health`);
    await refused;
    expect(served).toBeGreaterThan(10);
    await roomy.close();
  });
});

describe("routes", () => {
  it("unknown ones are 404 and wrong methods 405, in the error shape", async () => {
    const missing = await fetch(`${server.url}/v1/nothing?x=1`);
    expect(missing.status).toBe(404);
    expect(await missing.json()).toEqual({
      error: {
        message: "There is nothing at /v1/nothing.",
        type: "Not Found",
        param: null,
        code: 404,
      },
    });
    const wrong = await fetch(server.url + PATH);
    expect(wrong.status).toBe(405);
    expect(wrong.headers.get("allow")).toBe("POST");
    expect(await wrong.json()).toMatchObject({ error: { type: "Method Not Allowed", code: 405 } });
  });

  it("malformed paths and requests are 400 in the error shape", async () => {
    const path = await fetch(`${server.url}/v1/%zz`);
    expect(path.status).toBe(400);
    expect(await path.json()).toMatchObject({ error: { code: 400 } });
    const answer = await sendRaw("THIS IS NOT HTTP\r\n\r\n");
    expect(answer).toContain("HTTP/1.1 400 Bad Request");
    expect(answer).toContain('{"error":{"message":');
  });
});

/** Sends bytes to the server and returns all that comes back. */
function sendRaw(bytes: string): Promise<string> {
  return new Promise((resolve, reject) => {
    let answer = "";
    const socket = net.connect(server.port, "127.0.0.1", () => socket.write(bytes));
    socket.on("data", (data) => {
      answer += data;
    });
    socket.on("error", reject);
    socket.on("close", () => resolve(answer));
  });
}

describe("the official client", () => {
  it("meets its own error classes", async () => {
    const { completions } = server.client();
    const unknown = completions.create({ model: "other", prompt: "x" });
    await expect(unknown).rejects.toBeInstanceOf(OpenAI.NotFoundError);
    await expect(unknown).rejects.toMatchObject({
      status: 404,
      type: "NotFoundError",
      param: "model",
      message: "404 The model `other` does not exist.",
    });
    await expect(
      completions.create({ model: MODEL, prompt: "x", temperature: -1 }),
    ).rejects.toMatchObject({
      constructor: OpenAI.BadRequestError,
      message:
        "400 temperature must be non-negative, got -1.0. (parameter=temperature, value=-1.0)",
    });
    const stream = completions.create({ model: MODEL, prompt: "x".repeat(600), stream: true });
    await expect(stream).rejects.toBeInstanceOf(OpenAI.BadRequestError);
  });
});

describe("an engine that cannot", () => {
  let broken: Harness;

  afterEach(() => broken.close());

  it("has a full queue: 429 with Retry-After", async () => {
    broken = await Harness.start({ scheduler: { maxNumSeqs: 1, maxNumQueuedRequests: 1 } });
    broken.executor.stepMs = 20;
    const running = Array.from({ length: 2 }, () =>
      broken.ask(PATH, { prompt: "x", max_tokens: 20 }),
    );
    await until(() => broken.engine.stats().waiting + broken.engine.stats().running === 2);
    const response = await broken.post(PATH, { prompt: "x" });
    expect(response.status).toBe(429);
    expect(response.headers.get("retry-after")).toBe("1");
    expect(await response.json()).toMatchObject({ error: { type: "TooManyRequests", code: 429 } });
    const streamed = broken
      .client()
      .completions.create({ model: MODEL, prompt: "x", stream: true });
    await expect(streamed).rejects.toBeInstanceOf(OpenAI.RateLimitError);
    for (const { status } of await Promise.all(running)) expect(status).toBe(200);
  });

  it("is draining: 503 with Retry-After, while what runs is finished", async () => {
    broken = await Harness.start();
    broken.executor.stepMs = 10;
    const running = broken.ask(PATH, { prompt: "x", max_tokens: 20 });
    await until(() => broken.engine.stats().running === 1);
    const drained = broken.engine.drain();
    const response = await broken.post(PATH, { prompt: "x" });
    expect(response.status).toBe(503);
    expect(response.headers.get("retry-after")).toBe("5");
    expect(await response.json()).toMatchObject({ error: { type: "ServiceUnavailable" } });
    expect((await running).body.usage.completion_tokens).toBe(20);
    await drained;
  });

  it("fails before the first token: a status, and no word of why", async () => {
    broken = await Harness.start();
    broken.executor.failure = new UcmError("UCM_ERR_WORKER", "rank 0 died of SIGSEGV at 0xdead");
    for (const stream of [false, true]) {
      const { status, body } = await broken.ask(PATH, { prompt: "x", stream });
      expect(status).toBe(503);
      expect(JSON.stringify(body)).not.toContain("SIGSEGV");
    }
    expect(broken.faults[0]?.message).toContain("SIGSEGV");
    expect((await fetch(`${broken.url}/health`)).status).toBe(503);
  });

  it("fails with a plain exception: 500, and no word of why", async () => {
    broken = await Harness.start();
    broken.executor.failure = new Error("secret /home/operator");
    const { status, body } = await broken.ask(PATH, { prompt: "x" });
    expect(status).toBe(500);
    expect(body).toEqual({
      error: {
        message: "Internal server error",
        type: "InternalServerError",
        param: null,
        code: 500,
      },
    });
    expect(broken.faults[0]?.message).toBe("secret /home/operator");
  });

  it("fails in mid-stream: an event and the end of the stream", async () => {
    broken = await Harness.start();
    broken.executor.script = (k) => {
      if (k === 2) throw new Error("secret");
      return 65;
    };
    const events = await broken.events(PATH, { prompt: "x" });
    expect(events.slice(-2)).toEqual([
      '{"error": {"message": "Internal server error", "type": "InternalServerError", "param": null, "code": 500}}',
      "[DONE]",
    ]);
    expect(events).toHaveLength(4);
    expect(broken.faults[0]?.message).toBe("secret");
  });
});
