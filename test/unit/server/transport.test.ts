import { once } from "node:events";
import { copyFileSync, readFileSync, writeFileSync } from "node:fs";
import { type RequestOptions, request } from "node:https";
import net from "node:net";
import { join } from "node:path";
import tls from "node:tls";
import { afterEach, describe, expect, it } from "vitest";
import { readTls, refreshTls } from "../../../src/cli/tls-files.js";
import { makeTempFolder } from "../../helpers/temp-folder.js";
import { Harness, type HarnessSettings, type JsonObject, until } from "./harness.js";

/** TLS, the root path and limits, over real sockets. */

let server: Harness;
afterEach(() => server?.close());

const PATH = "/v1/completions";
const fixture = (name: string) => join(import.meta.dirname, "../../fixtures/tls", name);
const noTls = {
  sslKeyfile: null,
  sslCertfile: null,
  sslCaCerts: null,
  sslCertReqs: 0,
  sslCiphers: null,
};
const files = { ...noTls, sslCertfile: fixture("server.crt"), sslKeyfile: fixture("server.key") };
const ca = readFileSync(fixture("server.crt"));

async function serve(options: NonNullable<HarnessSettings["options"]>): Promise<void> {
  server = await Harness.start({ options });
}

/** POSTs over TLS; the answer's text. */
function post(path: string, body: object, options: RequestOptions = {}): Promise<string> {
  return new Promise((resolve, reject) => {
    const sent = request(
      {
        ...{ host: "127.0.0.1", port: server.port, method: "POST", path, agent: false, ca },
        headers: { "content-type": "application/json" },
        ...options,
      },
      async (response) => {
        let text = "";
        for await (const data of response) text += data;
        resolve(text);
      },
    );
    sent.on("error", reject);
    sent.end(JSON.stringify(body));
  });
}

/** Sends bytes as they are; all that comes back. */
async function raw(text: string): Promise<string> {
  const socket = net.connect(server.port, "127.0.0.1");
  socket.write(text);
  let answer = "";
  for await (const data of socket) answer += data;
  return answer;
}

describe("TLS", () => {
  it("serves whole answers and streams", async () => {
    await serve({ tls: readTls(files) });
    const whole = JSON.parse(await post(PATH, { prompt: "x", max_tokens: 3 }));
    expect(whole.choices[0].text).toBe("The");
    const stream = await post(PATH, { prompt: "x", max_tokens: 3, stream: true });
    expect(stream.endsWith("data: [DONE]\n\n")).toBe(true);
  });

  it("is not for those who do not know the certificate, nor for plain HTTP", async () => {
    await serve({ tls: readTls(files) });
    const stranger = post(PATH, {}, { ca: readFileSync(fixture("renewed.crt")) });
    await expect(stranger).rejects.toThrow("self-signed certificate");
    expect(await raw("GET /health HTTP/1.1\r\nhost: x\r\n\r\n").catch(String)).not.toContain("200");
    expect(JSON.parse(await post(PATH, { prompt: "x", max_tokens: 1 })).choices).toHaveLength(1);
  });

  it("asks clients for certificates", async () => {
    await serve({ tls: readTls({ ...files, sslCaCerts: fixture("renewed.crt"), sslCertReqs: 2 }) });
    await expect(post(PATH, { prompt: "x" })).rejects.toThrow();
    const known = {
      cert: readFileSync(fixture("renewed.crt")),
      key: readFileSync(fixture("renewed.key")),
    };
    const answer = JSON.parse(await post(PATH, { prompt: "x", max_tokens: 1 }, known));
    expect(answer.choices).toHaveLength(1);
  });

  it("takes renewed files into use, and keeps the old ones when the new are no good", async () => {
    const folder = makeTempFolder();
    const mine = {
      ...noTls,
      sslCertfile: join(folder, "server.crt"),
      sslKeyfile: join(folder, "server.key"),
    };
    copyFileSync(files.sslCertfile, mine.sslCertfile);
    copyFileSync(files.sslKeyfile, mine.sslKeyfile);
    await serve({ tls: readTls(mine) });
    const stop = refreshTls(mine, server.app.server, 20);
    const subject = async () => {
      const socket = tls.connect({
        ...{ host: "127.0.0.1", port: server.port, rejectUnauthorized: false },
      });
      await once(socket, "secureConnect");
      const { CN } = socket.getPeerCertificate().subject;
      socket.destroy();
      return CN;
    };
    expect(await subject()).toBe("localhost");
    writeFileSync(mine.sslCertfile, "no certificate");
    await new Promise((resolve) => setTimeout(resolve, 200));
    expect(await subject()).toBe("localhost");
    copyFileSync(fixture("renewed.key"), mine.sslKeyfile);
    copyFileSync(fixture("renewed.crt"), mine.sslCertfile);
    let last = "";
    const poll = setInterval(async () => {
      last = await subject();
    }, 20);
    await until(() => last === "renewed");
    clearInterval(poll);
    stop();
  });

  const mistakes: [string, object, string][] = [
    ["no certificate", { sslKeyfile: files.sslKeyfile }, "--ssl-certfile is missing"],
    ["no such file", { ...files, sslCertfile: "/nowhere/x.crt" }, "Cannot read --ssl-certfile"],
    ["no key", { sslCertfile: files.sslCertfile }, "cannot be used for TLS"],
    [
      "a key of another",
      { ...files, sslKeyfile: fixture("renewed.key") },
      "cannot be used for TLS",
    ],
    ["no PEM", { ...files, sslCertfile: import.meta.filename }, "cannot be used for TLS"],
    ["unknown ciphers", { ...files, sslCiphers: "NONE-OF-THEM" }, "cannot be used for TLS"],
    ["no authority", { ...files, sslCertReqs: 2 }, "--ssl-ca-certs must say whose"],
  ];
  it.each(mistakes)("is refused at the start: %s", async (_, flags, message) => {
    await serve({});
    expect(() => readTls({ ...noTls, ...flags })).toThrow(message);
  });
});

describe("the root path", () => {
  it("may come before every route", async () => {
    await serve({ rootPath: "/models/a/" });
    const body = { prompt: "x", max_tokens: 1 };
    expect((await server.ask(`/models/a${PATH}`, body)).status).toBe(200);
    expect((await server.ask(PATH, body)).status).toBe(200);
    expect((await server.ask(`/models/ab${PATH}`, body)).status).toBe(404);
    expect((await fetch(`${server.url}/models/a/health?x=1`)).status).toBe(200);
  });
});

describe("limits", () => {
  const statusOf = (answer: string) => Number(answer.split(" ")[1]);
  const headers = (count: number, text = "x") =>
    Array.from({ length: count }, (_, i) => `x-${i}: ${text}\r\n`).join("");
  const get = (extra: string) =>
    raw(`GET /health HTTP/1.1\r\nhost: x\r\nconnection: close\r\n${extra}\r\n`);

  it("of the number of headers", async () => {
    await serve({ maxHeaders: 10 });
    expect(statusOf(await get(headers(8)))).toBe(200);
    const refused = await get(headers(9));
    expect(statusOf(refused)).toBe(431);
    expect(refused).toContain("The request has more than 10 headers");
    expect(statusOf(await get(headers(1500)))).toBe(431);
  });

  it("of the size of headers", async () => {
    await serve({ headerLimitBytes: 4096 });
    expect(statusOf(await get(headers(1, "a".repeat(3000))))).toBe(200);
    const refused = await get(headers(1, "a".repeat(5000)));
    expect(statusOf(refused)).toBe(431);
    expect(refused).toContain('"code":431');
  });

  it("of the time that a client may take nothing", async () => {
    await serve({ stalledClientTimeoutMs: 300 });
    const body = JSON.stringify({
      ...{ prompt: "x", max_tokens: 450, n: 8, logprobs: 20, stream: true, ignore_eos: true },
    });
    const socket = net.connect({ port: server.port, host: "127.0.0.1" });
    socket.on("error", () => undefined);
    socket.pause();
    socket.write(
      `POST ${PATH} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n` +
        `content-length: ${body.length}\r\n\r\n${body}`,
    );
    await until(() => server.engine.stats().generatedTokens >= 8 * 450);
    const open = () =>
      new Promise<number>((resolve) => {
        (server.app.server as net.Server).getConnections((_, count) => resolve(count));
      });
    let count = await open();
    const poll = setInterval(async () => {
      count = await open();
    }, 20);
    await until(() => count === 0);
    clearInterval(poll);
    socket.destroy();
  });

  it("leaves a client alone that reads in its own time, and a model that thinks long", async () => {
    await serve({ stalledClientTimeoutMs: 150 });
    server.executor.stepMs = 200;
    const events = await server.events(PATH, { prompt: "x", max_tokens: 4 });
    expect(events.at(-1)).toBe("[DONE]");
    const parts = events.slice(0, -1).map((event) => JSON.parse(event) as JsonObject);
    expect(parts.map(({ choices }) => choices[0].text).join("")).toBe("The ");
  });
});
