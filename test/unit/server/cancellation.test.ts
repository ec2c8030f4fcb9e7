import net from "node:net";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { Harness, MODEL, until } from "./harness.js";

let server: Harness;

beforeEach(async () => {
  server = await Harness.start({ model: { maxModelLen: 8192 } });
  server.executor.stepMs = 2;
});
afterEach(() => server.close());

const LONG = { model: MODEL, prompt: "x", max_tokens: 8000 };

function isIdle(): boolean {
  const { running, waiting, usedBlocks } = server.engine.stats();
  return running === 0 && waiting === 0 && usedBlocks === 0;
}

describe("a client that leaves frees its sequences at once", () => {
  it("in the middle of a stream", async () => {
    const stream = await server.client().completions.create({ ...LONG, n: 2, stream: true });
    let parts = 0;
    for await (const part of stream) {
      expect(part.choices[0]?.text).toHaveLength(1);
      if (++parts === 5) break;
    }
    await until(isIdle);
    expect(server.engine.stats().generatedTokens).toBeLessThan(4000);
  });

  it("while it waits for a whole answer, of one prompt or of many", async () => {
    for (const prompt of ["x", ["x", "y", "z"]]) {
      const controller = new AbortController();
      const answer = server
        .client()
        .completions.create({ ...LONG, prompt }, { signal: controller.signal });
      await until(() => server.engine.stats().running > 0);
      controller.abort();
      await expect(answer).rejects.toThrow("aborted");
      await until(isIdle);
    }
    expect(server.faults).toEqual([]);
  });

  it("while it waits for its turn", async () => {
    await server.close();
    server = await Harness.start({ scheduler: { maxNumSeqs: 1 }, model: { maxModelLen: 8192 } });
    server.executor.stepMs = 2;
    const first = new AbortController();
    const second = new AbortController();
    const { completions } = server.client();
    const running = completions.create(LONG, { signal: first.signal });
    running.catch(() => undefined);
    await until(() => server.engine.stats().running === 1);
    const waiting = completions.create({ ...LONG, stream: true }, { signal: second.signal });
    waiting.catch(() => undefined);
    await until(() => server.engine.stats().waiting === 1);
    second.abort();
    await until(() => server.engine.stats().waiting === 0);
    expect(server.engine.stats().running).toBe(1);
    first.abort();
    await expect(running).rejects.toThrow("aborted");
    await expect(waiting).rejects.toThrow("aborted");
    await until(isIdle);
  });

  it("and leaves the requests of others alone", async () => {
    const controller = new AbortController();
    const gone = server.client().completions.create(LONG, { signal: controller.signal });
    const stays = server.client().completions.create({ ...LONG, max_tokens: 60 });
    await until(() => server.engine.stats().running === 2);
    controller.abort();
    await expect(gone).rejects.toThrow();
    expect((await stays).usage?.completion_tokens).toBe(60);
    await until(isIdle);
  });

  it("has no line in the access log unless an answer was begun", async () => {
    const controller = new AbortController();
    const answer = server.client().completions.create(LONG, { signal: controller.signal });
    await until(() => server.engine.stats().running === 1);
    controller.abort();
    await expect(answer).rejects.toThrow();
    await until(isIdle);
    expect(server.accessLines).toEqual([]);
  });
});

describe("a client that reads slowly", () => {
  it("holds up nobody and gets every token, merged into few parts", async () => {
    server.executor.stepMs = 0;
    // Parts of 2 kB and more fill the socket long before the request ends.
    const request = { ...LONG, n: 4, max_tokens: 4000, logprobs: 20, stream: true };
    const body = JSON.stringify(request);
    const socket = net.connect(server.port, "127.0.0.1");
    socket.pause();
    socket.write(
      `POST /v1/completions HTTP/1.1\r\nhost: x\r\nconnection: close\r\n` +
        `content-type: application/json\r\ncontent-length: ${body.length}\r\n\r\n${body}`,
    );
    await until(() => server.engine.stats().generatedTokens === 16_000 && isIdle());
    const connections = server.app.server as net.Server;
    expect(await countConnections(connections)).toBe(1);

    const text = await readAll(socket);
    const parts = text
      .split("\n")
      .filter((line) => line.startsWith("data: {"))
      .map((line) => JSON.parse(line.slice("data: ".length)));
    const tokens = [0, 0, 0, 0];
    for (const { choices } of parts) {
      tokens[choices[0].index] += choices[0].logprobs.tokens.length;
    }
    expect(tokens).toEqual([4000, 4000, 4000, 4000]);
    expect(parts.length).toBeLessThan(15_000);
    expect(text).toContain("data: [DONE]");
  });
});

function countConnections(from: net.Server): Promise<number> {
  return new Promise((resolve, reject) => {
    from.getConnections((error, count) => (error ? reject(error) : resolve(count)));
  });
}

async function readAll(socket: net.Socket): Promise<string> {
  let text = "";
  for await (const data of socket) text += data;
  return text;
}

describe("many clients at once", () => {
  it("each get their own answer", async () => {
    server.executor.stepMs = 0;
    server.executor.script = (k, { promptTokenIds }) => promptTokenIds[k % promptTokenIds.length]!;
    const names = Array.from({ length: 100 }, (_, i) => `client ${i}: `);
    const { completions } = server.client();
    const texts = await Promise.all(
      names.map(async (prompt, i) => {
        const request = { model: MODEL, prompt, max_tokens: prompt.length };
        if (i % 2 === 0) return (await completions.create(request)).choices[0]?.text;
        let text = "";
        for await (const part of await completions.create({ ...request, stream: true })) {
          text += part.choices[0]?.text ?? "";
        }
        return text;
      }),
    );
    expect(texts).toEqual(names);
    await until(isIdle);
  });
});
