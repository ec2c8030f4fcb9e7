import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { startServer } from "../helpers/loopback-server.js";
import { makeTempFolder } from "../helpers/temp-folder.js";
import { demoModel, runUcm, startUcm, until } from "../helpers/ucm-command.js";

const roof = /^Memory reads \(GB\/s\): +[\d.]+ *$/m;
const small = ["--max-model-len", "256", "--max-num-seqs", "8"];

describe("ucm bench serve", () => {
  const server = { url: "", child: null as ReturnType<typeof startUcm> | null };
  beforeAll(async () => {
    const args = ["serve", demoModel, "--port", "0", "--host", "127.0.0.1", ...small];
    server.child = startUcm([...args, "--served-model-name", "demo"]);
    let text = "";
    server.child.stdout?.on("data", (piece) => {
      text += piece;
    });
    await until("start-up", () => text.includes("Application startup complete."));
    server.url = /Starting ucm server on (\S+)/.exec(text)![1]!;
  });
  afterAll(async () => {
    server.child?.kill("SIGKILL");
    await server.child;
  });

  it.each(["openai", "vllm-chat"])("measures a live server over %s", async (backend) => {
    const folder = makeTempFolder();
    const { exitCode, stdout, stderr } = await runUcm([
      ...["bench", "serve", "--base-url", server.url, "--backend", backend],
      ...["--num-prompts", "4", "--random-input-len", "12", "--random-output-len", "5"],
      ...["--ignore-eos", "--max-concurrency", "2", "--ready-check-timeout-sec", "10"],
      ...["--save-result", "--save-detailed", "--result-dir", folder, "--metadata", "who=me"],
    ]);
    expect({ exitCode, stderr }).toEqual({ exitCode: 0, stderr: "" });
    expect(stdout).toMatch(/^Namespace\(.*dataset_name='random'.*request_rate=inf/m);
    expect(stdout).toMatch(
      /^Starting main benchmark run\.\.\.\nTraffic request rate: inf\nBurstiness factor: 1\.0 \(Poisson process\)\nMaximum request concurrency: 2$/m,
    );
    expect(stdout).toMatch(/^Successful requests: {21}4 *$/m);
    expect(stdout).toMatch(/^Total generated tokens: +20 *$/m);
    expect(stdout).toMatch(roof);
    const [name = ""] = readdirSync(folder);
    expect(name).toMatch(new RegExp(`^${backend}-infqps-concurrency2-demo-\\d{8}-\\d{6}\\.json$`));
    const result = JSON.parse(readFileSync(join(folder, name), "utf8"));
    expect(result).toMatchObject({ completed: 4, failed: 0, who: "me", model_id: "demo" });
    expect(result.output_lens).toEqual([5, 5, 5, 5]);
    expect(result.itls[0]).toHaveLength(backend === "openai" ? 4 : result.itls[0].length);
  });

  it("replays a Mooncake trace, whose shared blocks are found in the cache", async () => {
    const folder = makeTempFolder();
    const trace = join(folder, "trace.jsonl");
    const entry = (timestamp: number, ...hash_ids: number[]) =>
      `${JSON.stringify({ timestamp, input_length: 512 * hash_ids.length, output_length: 3, hash_ids })}\n`;
    writeFileSync(trace, entry(50, 1, 2) + entry(300, 1, 2, 3) + entry(450, 1, 4));
    const { exitCode, stdout, stderr } = await runUcm([
      ...["bench", "serve", "--base-url", server.url, "--ignore-eos"],
      ...["--dataset-name", "mooncake", "--dataset-path", trace, "--mooncake-block-len", "48"],
      ...["--save-result", "--save-detailed", "--result-dir", folder, "--result-filename", "r"],
    ]);
    expect({ exitCode, stderr }).toEqual({ exitCode: 0, stderr: "" });
    expect(stdout).toContain("\nTraffic: at the times of the trace, times 1\n");
    expect(stdout).toMatch(/^Successful requests: +3 *$/m);
    const result = JSON.parse(readFileSync(join(folder, "r"), "utf8"));
    expect(result.output_lens).toEqual([3, 3, 3]);
    const [first, second, third] = result.start_times as [number, number, number];
    expect(second - first).toBeGreaterThan(0.24);
    expect(third - first).toBeGreaterThan(0.39);
    const metrics = await (await fetch(`${server.url}/metrics`)).text();
    const [, hits] = /^vllm:prefix_cache_hits_total\{.*\} (\d+)/m.exec(metrics)!;
    // At least the first block of the second and the third; where blocks meet a token may differ.
    expect(Number(hits)).toBeGreaterThanOrEqual(32 + 32);
  });

  it("counts requests that fail, and says why", async () => {
    const args = ["bench", "serve", "--base-url", server.url, "--num-prompts", "2"];
    const { exitCode, stdout, stderr } = await runUcm([...args, "--model", "nobody"]);
    expect(exitCode).toBe(1);
    expect(stdout).toMatch(/^Failed requests: +2 *$/m);
    expect(stderr).toContain("The server answered 404: The model `nobody` does not exist.");
    expect(stderr).toContain("All requests failed.");
  });
});

it("bench serve survives a server that breaks off", async () => {
  let count = 0;
  const url = await startServer((request, response) => {
    if (request.url === "/v1/models") {
      response.end(JSON.stringify({ data: [{ id: "m", root: demoModel }] }));
      return;
    }
    count += 1;
    response.writeHead(200, { "content-type": "text/event-stream" });
    response.write('data: {"choices": [{"text": "a b"}]}\n\n');
    if (count > 1) response.destroy();
    else response.end("data: [DONE]\n\n");
  });
  const args = ["bench", "serve", "--base-url", url, "--num-prompts", "2", "--input-len", "4"];
  const { exitCode, stdout } = await runUcm([...args, "--max-concurrency", "1"]);
  expect(exitCode).toBe(0);
  expect(stdout).toMatch(/^Successful requests: +1 *$/m);
  expect(stdout).toMatch(/^Failed requests: +1 *$/m);
  // Not counted by the server, so its text is.
  expect(stdout).toMatch(/^Total generated tokens: +[12] *$/m);
});

it("bench latency prints vLLM's lines beside the roof", async () => {
  const { exitCode, stdout } = await runUcm([
    ...[
      "bench",
      "latency",
      "--model",
      demoModel,
      "--input-len",
      "8",
      "--output-len",
      "4",
      ...small,
    ],
    ...["--batch-size", "2", "--num-iters", "2", "--num-iters-warmup", "1"],
  ]);
  expect(exitCode).toBe(0);
  expect(stdout).toMatch(
    /^Warming up\.\.\.\nAvg latency: [\d.]+ seconds\n10% percentile latency: /,
  );
  expect(stdout).toMatch(/^99% percentile latency: [\d.]+ seconds$/m);
  expect(stdout).toMatch(roof);
  expect(stdout).toMatch(/^Decode, weights read \(GB\/s\): +[\d.]+ \(\d+ % of the roof\)$/m);
});

it("bench throughput prints vLLM's lines beside the roof", async () => {
  const file = join(makeTempFolder(), "out.json");
  const { exitCode, stdout } = await runUcm([
    ...["bench", "throughput", demoModel, "--input-len", "8", "--output-len", "4", ...small],
    ...["--num-prompts", "3", "--n", "2", "--prefix-len", "2", "--output-json", file],
  ]);
  expect(exitCode).toBe(0);
  expect(stdout).toMatch(
    /^Throughput: [\d.]+ requests\/s, [\d.]+ total tokens\/s, [\d.]+ output tokens\/s\nTotal num prompt tokens: {2}30\nTotal num output tokens: {2}24\n/,
  );
  expect(stdout).toMatch(/^Computed \(GFLOP\/s\): +[\d.]+ \(\d+ % of the roof\)$/m);
  expect(JSON.parse(readFileSync(file, "utf8"))).toMatchObject({ num_requests: 3 });
});

it("bench asks for its second word", async () => {
  expect(await runUcm(["bench"])).toMatchObject({
    exitCode: 2,
    stderr:
      "usage: ucm bench [-h] {serve,latency,throughput,attention,store} ...\nucm bench: error: the following arguments are required: bench_type",
  });
  expect((await runUcm(["bench", "x"])).stderr).toContain(
    "invalid choice: 'x' (choose from 'serve'",
  );
  expect((await runUcm(["bench", "--help"])).stdout).toContain("Measure a running server");
  expect((await runUcm(["bench", "latency"])).stderr).toBe(
    "usage: ucm bench latency [model] [options]\nucm bench latency: error: the following arguments are required: --model",
  );
});
