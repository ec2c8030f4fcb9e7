import type { IncomingMessage, ServerResponse } from "node:http";
import { describe, expect, it } from "vitest";
import { startServer } from "../helpers/loopback-server.js";
import { runUcm, startUcm, until } from "../helpers/ucm-command.js";

interface Seen {
  path: string;
  key: string | undefined;
  body: Record<string, unknown>;
}

/** A server that answers with its model's name and what it was asked last, and remembers requests. */
async function scriptedServer(stream: (response: ServerResponse, request: Seen) => void = echo) {
  const seen: Seen[] = [];
  const url = await startServer((request: IncomingMessage, response, text) => {
    if (request.url === "/v1/models") {
      response.end(JSON.stringify({ data: [{ id: "first" }, { id: "second" }] }));
      return;
    }
    const body = JSON.parse(text);
    seen.push({ path: request.url ?? "", key: request.headers.authorization, body });
    response.writeHead(200, { "content-type": "text/event-stream" });
    stream(response, seen.at(-1)!);
  });
  return { url: `${url}/v1`, seen };
}

const event = (value: unknown) => `data: ${JSON.stringify(value)}\n\n`;

function echo(response: ServerResponse, { path, body }: Seen): void {
  const isChat = path.endsWith("/chat/completions");
  const messages = body.messages as { content: string }[] | undefined;
  const said = messages?.at(-1)?.content ?? String(body.prompt);
  const pieces = ["You said: ", said];
  if (isChat) response.write(event({ choices: [{ delta: { role: "assistant", content: "" } }] }));
  for (const piece of pieces) {
    response.write(event({ choices: [isChat ? { delta: { content: piece } } : { text: piece }] }));
  }
  const usage = { prompt_tokens: 3, completion_tokens: 9 };
  response.end(`${event({ choices: [], usage })}data: [DONE]\n\n`);
}

describe("ucm chat", () => {
  it("talks as vLLM's does, with the whole conversation in every request", async () => {
    const { url, seen } = await scriptedServer();
    const { exitCode, stdout, stderr } = await startUcm(
      ["chat", "--url", url, "--system-prompt", "Be brief."],
      { OPENAI_API_KEY: "sk-1" },
      { stdin: "pipe", input: "one\ntwo\n" },
    );
    expect({ exitCode, stderr }).toEqual({ exitCode: 0, stderr: "" });
    expect(stdout).toBe(
      "Using model: first\nPlease enter a message for the chat model:\n> You said: one\n> You said: two\n> ",
    );
    expect(seen.map(({ key }) => key)).toEqual(["Bearer sk-1", "Bearer sk-1"]);
    expect(seen[1]!.body).toEqual({
      model: "first",
      messages: [
        { role: "system", content: "Be brief." },
        { role: "user", content: "one" },
        { role: "assistant", content: "You said: one" },
        { role: "user", content: "two" },
      ],
      stream: true,
      stream_options: { include_usage: true },
    });
  });

  it("answers one message with -q, and tells the time it took", async () => {
    const { url, seen } = await scriptedServer();
    const args = ["chat", "--url", url, "-q", "hi", "--model-name", "second", "--timing"];
    const { exitCode, stdout, stderr } = await runUcm(args);
    expect(exitCode).toBe(0);
    expect(stdout).toBe("Using model: second\nYou said: hi");
    expect(stderr).toMatch(/^\(9 tokens, first after \d+\.\d\d s(, \d+\.\d tokens\/s)?\)$/);
    expect(seen[0]!.key).toBe("Bearer EMPTY");
  });

  it("goes on after an error, of which it keeps nothing", async () => {
    let count = 0;
    const { url, seen } = await scriptedServer((response, request) => {
      count += 1;
      if (count === 1) response.end(event({ error: { message: "The engine is tired." } }));
      else if (count === 2) response.end(event({ choices: [{ delta: { content: "half" } }] }));
      else echo(response, request);
    });
    const { stdout, stderr } = await startUcm(
      ["chat", "--url", url],
      {},
      { input: "a\nb\nc\n", stdin: "pipe" },
    );
    expect(stderr).toBe(
      "error: The engine is tired.\nerror: The server ended the answer before it was complete.",
    );
    expect(stdout).toContain("You said: c");
    expect(seen[2]!.body.messages).toEqual([{ role: "user", content: "c" }]);
  });

  it("is interrupted by SIGINT: first the answer, then the conversation", async () => {
    const open: ServerResponse[] = [];
    const { url, seen } = await scriptedServer((response) => {
      response.write(event({ choices: [{ delta: { content: "endless" } }] }));
      open.push(response);
    });
    const child = startUcm(["chat", "--url", url], {}, { stdin: "pipe" });
    let text = "";
    child.stdout?.on("data", (piece) => {
      text += piece;
    });
    child.stdin?.write("go\n");
    await until("the answer", () => text.includes("endless"));
    child.kill("SIGINT");
    await until("the next question", () => text.endsWith("endless\n> "));
    await until("the end of the request", () => open[0]!.destroyed);
    child.stdin?.write("more\n");
    await until("the second request", () => seen.length === 2);
    expect(seen[1]!.body.messages).toMatchObject([{}, { content: "endless" }, { content: "more" }]);
    await until("the second answer", () => text.endsWith("> endless"));
    child.kill("SIGINT");
    await until("the third question", () => text.endsWith("endless\n> "));
    child.kill("SIGINT");
    expect((await child).exitCode).toBe(0);
  });
});

describe("ucm complete", () => {
  it("completes prompts", async () => {
    const { url, seen } = await scriptedServer();
    const args = ["complete", "--url", `${url}/`, "--max-tokens", "5"];
    const { stdout } = await startUcm(args, {}, { input: "Once\n", stdin: "pipe" });
    expect(stdout).toBe(
      "Using model: first\nPlease enter prompt to complete:\n> You said: Once\n> ",
    );
    expect(seen[0]).toMatchObject({
      path: "/v1/completions",
      body: { prompt: "Once", max_tokens: 5, stream: true },
    });
  });

  it("says what is wrong with the server", async () => {
    const nobody = await runUcm(["complete", "--url", "http://127.0.0.1:1/v1", "-q", "a"]);
    expect(nobody).toMatchObject({ exitCode: 1, stdout: "" });
    expect(nobody.stderr).toBe(
      "ucm complete: error: Cannot reach http://127.0.0.1:1/v1/models: nothing listens there. Start a server with `ucm serve <model>`, or check the URL.",
    );
    const refusing = await startServer((_, response) => {
      response.writeHead(401).end(JSON.stringify({ error: { message: "Unauthorized" } }));
    });
    const refused = await runUcm(["complete", "--url", refusing, "-q", "a"]);
    expect(refused.stderr).toBe("ucm complete: error: The server answered 401: Unauthorized");
    const elsewhere = await startServer((_, response) => response.writeHead(404).end());
    const rootless = await runUcm(["complete", "--url", elsewhere, "-q", "a"]);
    expect(rootless.stderr).toBe(
      `ucm complete: error: There is nothing at ${elsewhere}/models: the URL of an API ends in /v1. Try --url ${elsewhere}/v1.`,
    );
    const odd = await runUcm(["complete", "--url", "ftp://x", "-q", "a"]);
    expect(odd.exitCode).toBe(2);
    const empty = await startServer((_, response) => response.end('{"data": []}'));
    expect((await runUcm(["chat", "--url", empty])).stderr).toContain("lists no model");
  });
});
