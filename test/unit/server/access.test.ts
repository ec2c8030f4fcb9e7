import { afterEach, describe, expect, it } from "vitest";
import { Harness, MODEL } from "./harness.js";

let server: Harness;

afterEach(() => server.close());

const PATH = "/v1/completions";

describe("API keys", () => {
  const guarded = [
    "/v1/completions",
    "/v1/chat/completions",
    "/v1/models",
    "/tokenize",
    "/detokenize",
    "/v1/nothing",
  ];

  it("guard every route that tells or does something", async () => {
    server = await Harness.start({ options: { apiKeys: ["first", "second", ""] } });
    const wrong = ["", "Bearer", "Bearer ", "Bearer firs", "Bearer first2", "Basic first", "first"];
    for (const path of guarded) {
      for (const authorization of wrong) {
        const headers = authorization === "" ? {} : { authorization };
        const response = await fetch(server.url + path, { headers });
        expect([path, authorization, response.status]).toEqual([path, authorization, 401]);
        expect(response.headers.get("www-authenticate")).toBe("Bearer");
        expect(await response.json()).toMatchObject({ error: { type: "Unauthorized", code: 401 } });
      }
    }
    for (const path of ["/health", "/ping", "/version", "/load"]) {
      expect((await fetch(server.url + path)).status).toBe(200);
    }
  });

  it("open with any of the keys, whatever the case of the scheme", async () => {
    server = await Harness.start({ options: { apiKeys: ["first", "second"] } });
    for (const authorization of ["Bearer first", "bearer second", "BEARER  first"]) {
      const response = await fetch(`${server.url}/v1/models`, { headers: { authorization } });
      expect(response.status).toBe(200);
    }
    const models = await server.client("second").models.list();
    expect(models.data.map((model) => model.id)).toEqual([MODEL, "alias"]);
    await expect(server.client("third").models.list()).rejects.toMatchObject({ status: 401 });
  });

  it("are refused before the body is looked at", async () => {
    server = await Harness.start({ options: { apiKeys: ["key"] } });
    expect((await server.post(PATH, "{broken")).status).toBe(401);
  });
});

describe("CORS", () => {
  it("lets any origin in by default", async () => {
    server = await Harness.start({ options: { apiKeys: ["key"] } });
    const preflight = await fetch(server.url + PATH, {
      method: "OPTIONS",
      headers: {
        origin: "http://page.test",
        "access-control-request-method": "POST",
        "access-control-request-headers": "authorization,content-type",
      },
    });
    expect(preflight.status).toBe(204);
    expect(preflight.headers.get("access-control-allow-origin")).toBe("*");
    expect(preflight.headers.get("access-control-allow-methods")).toContain("POST");
    expect(preflight.headers.get("access-control-allow-headers")).toBe(
      "authorization,content-type",
    );
    const refused = await fetch(server.url + PATH, { headers: { origin: "http://page.test" } });
    expect(refused.status).toBe(401);
    expect(refused.headers.get("access-control-allow-origin")).toBe("*");
  });

  it("keeps to a list, also on streams", async () => {
    const cors = {
      origins: ["http://a.test"],
      methods: ["POST"],
      headers: ["x-y"],
      credentials: true,
    };
    server = await Harness.start({ options: { cors } });
    const ask = (origin: string) => server.post(PATH, { prompt: "x", stream: true }, { origin });
    const friend = await ask("http://a.test");
    expect(friend.headers.get("access-control-allow-origin")).toBe("http://a.test");
    expect(friend.headers.get("access-control-allow-credentials")).toBe("true");
    await friend.text();
    const stranger = await ask("http://b.test");
    expect(stranger.headers.get("access-control-allow-origin")).toBeNull();
    await stranger.text();
  });
});

describe("request ids", () => {
  it("are on every response when asked for", async () => {
    server = await Harness.start({ options: { enableRequestIdHeaders: true } });
    const own = await server.post(PATH, { prompt: "x" }, { "x-request-id": "mine" });
    expect(own.headers.get("x-request-id")).toBe("mine");
    const made = await server.post(PATH, { prompt: "x" });
    const id = made.headers.get("x-request-id");
    expect(id).toMatch(/^[0-9a-f]{32}$/);
    expect(((await made.json()) as { id: string }).id).toBe(`cmpl-${id}`);
    expect((await fetch(`${server.url}/nothing`)).headers.get("x-request-id")).not.toBeNull();
  });

  it("are not shown otherwise", async () => {
    server = await Harness.start();
    const response = await server.post(PATH, { prompt: "x" });
    expect(response.headers.get("x-request-id")).toBeNull();
  });
});

describe("the access log", () => {
  it("has uvicorn's format, one line per answer", async () => {
    server = await Harness.start();
    await server.ask(PATH, { prompt: "x" });
    await server.events(PATH, { prompt: "x" });
    await fetch(`${server.url}/health?probe=1`);
    await fetch(`${server.url}/nöthing`);
    await server.ask(PATH, { prompt: "" });
    const lines = server.accessLines.map((line) => line.replace(/^127\.0\.0\.1:\d+ - /, ""));
    expect(lines).toEqual([
      '"POST /v1/completions HTTP/1.1" 200 OK',
      '"POST /v1/completions HTTP/1.1" 200 OK',
      '"GET /health?probe=1 HTTP/1.1" 200 OK',
      '"GET /n%C3%B6thing HTTP/1.1" 404 Not Found',
      '"POST /v1/completions HTTP/1.1" 400 Bad Request',
    ]);
  });

  it("can be without some paths, and off", async () => {
    server = await Harness.start({ options: { accessLogExcludedPaths: ["/health"] } });
    await fetch(`${server.url}/health`);
    await fetch(`${server.url}/ping`);
    expect(server.accessLines).toHaveLength(1);
    expect(server.accessLines[0]).toContain("GET /ping");
    await server.close();
    server = await Harness.start({ options: { accessLog: false } });
    await fetch(`${server.url}/ping`);
    expect(server.accessLines).toEqual([]);
  });
});
