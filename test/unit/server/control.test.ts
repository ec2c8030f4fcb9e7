import { afterEach, describe, expect, it } from "vitest";
import { Harness, type JsonObject, until } from "./harness.js";

let server: Harness;
afterEach(() => server.close());

const PATH = "/v1/completions";
const shared = "The same beginning of all prompts, longer than two blocks of it. ";
const short = { prompt: shared, max_tokens: 4 };
const long = { prompt: "x", max_tokens: 400, ignore_eos: true };

const post = (path: string) => server.post(path, "");
const get = async (path: string): Promise<JsonObject> =>
  (await fetch(server.url + path)).json() as Promise<JsonObject>;
const isPaused = async () => (await get("/is_paused")).is_paused;

describe("/pause and /resume", () => {
  it("abort: ends what runs, and keeps what comes until it goes on", async () => {
    server = await Harness.start();
    server.executor.stepMs = 2;
    const running = server.ask(PATH, long);
    await until(() => server.engine.stats().running === 1);
    expect(await (await post("/pause")).json()).toEqual({ status: "paused" });
    expect((await running).body.choices[0].finish_reason).toBe("abort");
    expect(await isPaused()).toBe(true);
    let isAnswered = false;
    const waiting = server.ask(PATH, short).finally(() => {
      isAnswered = true;
    });
    await new Promise((resolve) => setTimeout(resolve, 100));
    expect(isAnswered).toBe(false);
    expect(await (await post("/resume")).json()).toEqual({ status: "resumed" });
    expect((await waiting).body.choices[0].finish_reason).toBe("length");
    expect(await isPaused()).toBe(false);
  });

  it("wait: lets what runs end", async () => {
    server = await Harness.start();
    server.executor.stepMs = 1;
    const running = server.ask(PATH, { ...long, max_tokens: 30 });
    await until(() => server.engine.stats().running === 1);
    await post("/pause?mode=wait");
    expect((await running).body.choices[0].finish_reason).toBe("length");
    expect(server.engine.stats().running).toBe(0);
  });

  it("keep: what runs stands still and goes on, with the same text", async () => {
    server = await Harness.start();
    server.executor.stepMs = 2;
    const running = server.ask(PATH, { ...long, max_tokens: 60 });
    await until(() => server.engine.stats().generatedTokens > 3);
    await post("/pause?mode=keep&clear_cache=false");
    const { generatedTokens } = server.engine.stats();
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect(server.engine.stats()).toMatchObject({ generatedTokens, running: 1 });
    await post("/resume");
    const paused = (await running).body.choices[0];
    const plain = (await server.ask(PATH, { ...long, max_tokens: 60 })).body.choices[0];
    expect(paused).toEqual(plain);
  });

  it("forgets a request whose client left while it was paused", async () => {
    server = await Harness.start();
    await post("/pause");
    const controller = new AbortController();
    const left = fetch(server.url + PATH, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify(short),
      signal: controller.signal,
    });
    await until(() => server.engine.stats().waiting === 1);
    controller.abort();
    await expect(left).rejects.toThrow();
    await until(() => server.engine.stats().waiting === 0);
    await post("/resume");
    expect((await server.ask(PATH, short)).status).toBe(200);
    expect(server.executor.seen).toHaveLength(1);
  });

  it("ends with the server, whoever waits", async () => {
    server = await Harness.start();
    await post("/pause");
    const waiting = server.ask(PATH, short);
    await until(() => server.engine.stats().waiting === 1);
    await server.engine.drain();
    expect((await waiting).body.choices[0].finish_reason).toBe("length");
  });

  it("refuses a mode that does not exist", async () => {
    server = await Harness.start();
    const { status, body } = await server.ask("/pause?mode=softly", {});
    expect(status).toBe(400);
    expect(body.error.message).toContain("Invalid pause mode: softly");
  });
});

describe("development mode", () => {
  const routes = ["/reset_prefix_cache", "/reset_mm_cache", "/sleep", "/wake_up"];

  it("is off unless asked for", async () => {
    server = await Harness.start();
    for (const path of routes) expect((await post(path)).status).toBe(404);
    expect((await fetch(`${server.url}/is_sleeping`)).status).toBe(404);
  });

  it("empties the prefix cache", async () => {
    server = await Harness.start({ options: { devMode: true } });
    const cached = async () =>
      (await server.ask(PATH, short)).body.usage.prompt_tokens_details.cached_tokens;
    expect(await cached()).toBe(0);
    expect(await cached()).toBe(64);
    const reset = await post("/reset_prefix_cache");
    expect([reset.status, await reset.text()]).toEqual([200, ""]);
    expect(await cached()).toBe(0);
    expect((await post("/reset_prefix_cache?reset_external=true")).status).toBe(400);
  });

  it("sleeps and wakes up", async () => {
    server = await Harness.start({ options: { devMode: true } });
    const isSleeping = () => get("/is_sleeping");
    expect(await isSleeping()).toEqual({ is_sleeping: false });
    expect((await post("/sleep?level=1")).status).toBe(200);
    expect(await isSleeping()).toEqual({ is_sleeping: true });
    const waiting = server.ask(PATH, short);
    expect((await fetch(`${server.url}/health`)).status).toBe(200);
    expect((await post("/wake_up")).status).toBe(200);
    expect((await waiting).status).toBe(200);
    expect(await isSleeping()).toEqual({ is_sleeping: false });
    expect((await post("/sleep?level=7")).status).toBe(400);
  });

  it("sleeps once, tells who comes meanwhile to wait, and never loses what stands still", async () => {
    server = await Harness.start({ options: { devMode: true } });
    server.executor.stepMs = 2;
    expect((await post("/sleep?level=1&mode=keep")).status).toBe(400);
    const running = server.ask(PATH, { ...long, max_tokens: 60 });
    await until(() => server.engine.stats().generatedTokens > 3);
    await post("/pause?mode=keep");
    const refused = await server.ask("/sleep", {});
    expect(refused.status).toBe(400);
    expect(refused.body.error.message).toContain("/pause?mode=keep");
    await post("/resume");
    expect((await running).body.choices[0].finish_reason).toBe("length");

    await Promise.all([post("/sleep"), post("/sleep?level=2")]);
    expect(server.engine.stats().isAsleep).toBe(true);
    const early = await server.ask("/resume", {});
    expect(early.status).toBe(400);
    expect(early.body.error.message).toBe("The engine sleeps: POST /wake_up first.");
    const waiting = server.ask(PATH, short);
    await Promise.all([post("/wake_up"), post("/wake_up?tags=weights")]);
    const { usage } = (await waiting).body;
    expect(usage.prompt_tokens_details.cached_tokens).toBe(0);
    expect(server.engine.stats().isAsleep).toBe(false);
  });

  it("level 0 keeps the workers and what they have computed", async () => {
    server = await Harness.start({ options: { devMode: true } });
    await server.ask(PATH, short);
    await post("/sleep?level=0&mode=wait");
    expect(server.engine.stats().isAsleep).toBe(false);
    expect(await isPaused()).toBe(true);
    await post("/wake_up");
    const { usage } = (await server.ask(PATH, short)).body;
    expect(usage.prompt_tokens_details.cached_tokens).toBe(64);
  });

  it("ends while asleep, whoever waits", async () => {
    server = await Harness.start({ options: { devMode: true } });
    await post("/sleep");
    const waiting = server.ask(PATH, short);
    await new Promise((resolve) => setTimeout(resolve, 50));
    await server.engine.drain();
    expect((await waiting).body.choices[0].finish_reason).toBe("abort");
  });

  it("tells the configuration", async () => {
    server = await Harness.start({ options: { devMode: true } });
    const info = await get("/server_info?config_format=json");
    expect(info.vllm_config.model.maxModelLen).toBe(512);
  });

  it("is closed to those without a key", async () => {
    server = await Harness.start({ options: { devMode: true, apiKeys: ["key"] } });
    for (const path of [...routes, "/pause", "/resume"]) {
      expect((await post(path)).status).toBe(401);
    }
  });
});
