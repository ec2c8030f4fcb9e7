import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, it } from "vitest";
import { startServer } from "../helpers/loopback-server.js";
import { makeTempFolder } from "../helpers/temp-folder.js";
import { demoModel, runUcm } from "../helpers/ucm-command.js";

const folder = makeTempFolder();
const input = join(folder, "in.jsonl");
const output = join(folder, "out.jsonl");
const args = ["run-batch", "--model", demoModel, "--max-model-len", "256", "--max-num-seqs", "8"];
const run = (file = input) => runUcm([...args, "-i", file, "-o", output]);

const line = (custom_id: string, body: unknown, url = "/v1/completions") =>
  `${JSON.stringify({ custom_id, method: "POST", url, body })}\n`;

it("answers every line in order, whatever became of it", async () => {
  const greedy = { model: demoModel, max_tokens: 4, temperature: 0 };
  writeFileSync(
    input,
    [
      line("long", { ...greedy, prompt: "Once upon", max_tokens: 30, ignore_eos: true }),
      "\n",
      line(
        "chat",
        { ...greedy, messages: [{ role: "user", content: "Hi" }] },
        "/v1/chat/completions",
      ),
      line("wrong", { ...greedy, prompt: "a", temperature: -1 }),
      line("model", { ...greedy, prompt: "a", model: "other" }),
      line("stream", { ...greedy, prompt: "a", stream: true }),
      line("route", {}, "/v1/embeddings"),
    ].join(""),
  );
  const { exitCode, stderr } = await run();
  expect({ exitCode, stderr }).toEqual({ exitCode: 0, stderr: "" });
  const records = readFileSync(output, "utf8")
    .trim()
    .split("\n")
    .map((text) => JSON.parse(text));
  expect(records.map(({ custom_id }) => custom_id)).toEqual([
    ...["long", "chat", "wrong", "model", "stream", "route"],
  ]);
  const [long, chat, wrong, model, stream, route] = records;
  expect(long).toMatchObject({
    id: expect.stringMatching(/^vllm-[0-9a-f]{32}$/),
    response: { status_code: 200, request_id: expect.stringMatching(/^vllm-batch-[0-9a-f]{32}$/) },
    error: null,
  });
  expect(long.response.body.usage.completion_tokens).toBe(30);
  expect(chat.response.body.choices[0].message.role).toBe("assistant");
  expect(wrong).toMatchObject({
    response: { status_code: 400, body: null },
    error: { error: { message: expect.stringContaining("temperature"), code: 400 } },
  });
  expect(model).toMatchObject({ response: { status_code: 404 } });
  expect(stream.error).toBe("Request must not be sent in stream mode");
  expect(route.error).toMatch(/^URL \/v1\/embeddings was used\. Supported endpoints: /);
});

it("reads from a URL and puts the records to one, again when that fails", async () => {
  const greedy = { max_tokens: 2, temperature: 0, prompt: "Once" };
  const received: string[] = [];
  const url = await startServer((request, response, body) => {
    if (request.method === "GET") {
      response.writeHead(request.url === "/in.jsonl" ? 200 : 404).end(line("a", greedy));
      return;
    }
    received.push(`${request.method} ${request.url} ${body}`);
    const isRefused = request.url === "/closed" || received.length === 1;
    response.writeHead(request.url === "/closed" ? 403 : isRefused ? 503 : 200).end("busy");
  });
  const tmp = join(folder, "tmp");
  mkdirSync(tmp);
  const runUrls = (from: string, to: string) =>
    runUcm([...args, "-i", url + from, "-o", url + to, "--output-tmp-dir", tmp]);
  const done = await runUrls("/in.jsonl", "/out.jsonl");
  expect(done).toMatchObject({ exitCode: 0, stderr: "" });
  expect(done.stdout).toContain("The server answered 503: busy. Sending the output file again.");
  expect(received).toHaveLength(2);
  expect(received[1]).toMatch(/^PUT \/out\.jsonl \{"id":"vllm-.*"custom_id":"a".*\n$/);
  expect(readdirSync(tmp)).toEqual([]);

  const refused = await runUrls("/in.jsonl", "/closed");
  expect(refused.exitCode).toBe(2);
  const kept = /\/closed: The server answered 403: busy. The records are in (\S+)\.$/.exec(
    refused.stderr,
  )?.[1];
  expect(JSON.parse(readFileSync(kept!, "utf8"))).toMatchObject({ custom_id: "a" });

  const missing = await runUrls("/none.jsonl", "/out.jsonl");
  expect(missing.exitCode).toBe(2);
  expect(missing.stderr).toContain("/none.jsonl cannot be read: The server answered 404: ");
});

it("tells what is wrong before the model is loaded", async () => {
  const message = async (text: string) => {
    writeFileSync(input, text);
    const { exitCode, stdout, stderr } = await run();
    expect(exitCode).toBe(2);
    expect(stdout).not.toContain("Starting to load model");
    return stderr.replace("ucm run-batch: error: ", "");
  };
  expect(await message(`${line("a", {})}{"custom_id": \n`)).toMatch(
    /in\.jsonl line 2: not valid JSON/,
  );
  expect(await message('{"custom_id": "a", "url": "/v1/completions"}')).toMatch(
    /in\.jsonl line 1: body: /,
  );
  expect(await message("\n")).toContain("has no request");
  expect((await run("/nope")).stderr).toContain("The input file /nope cannot be read");
  expect((await runUcm(["run-batch", "-i", input])).stderr).toBe(
    "usage: ucm run-batch [model] [options]\nucm run-batch: error: the following arguments are required: -o/--output-file, --model",
  );
  writeFileSync(input, line("a", {}));
  const { exitCode, stderr } = await runUcm([...args, "-i", input, "-o", "/no/such/o.jsonl"]);
  expect(exitCode).toBe(2);
  expect(stderr).toContain("Cannot write the output file /no/such/o.jsonl");
});
