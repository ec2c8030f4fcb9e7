import { writeFileSync } from "node:fs";
import { get } from "node:http";
import { join } from "node:path";
import { afterEach, describe, expect, it } from "vitest";
import { makeTempFolder } from "../helpers/temp-folder.js";
import { childrenOf, demoModel, isRunning, startUcm, until } from "../helpers/ucm-command.js";

type Child = ReturnType<typeof startUcm>;

interface Server {
  child: Child;
  url: string;
  /** All that was printed on stdout so far. */
  output(): string;
  worker: number;
}

const started: Child[] = [];
afterEach(async () => {
  for (const child of started.splice(0)) {
    child.kill("SIGKILL");
    await child;
  }
});

async function start(args: string[], env: Record<string, string> = {}): Promise<Server> {
  const child = startUcm(["serve", demoModel, "--port", "0", ...args], env);
  started.push(child);
  let text = "";
  child.stdout?.on("data", (chunk) => {
    text += chunk;
  });
  await until("start-up", () => text.includes("Application startup complete."));
  const [worker = 0] = await childrenOf(child.pid ?? 0);
  const port = /Starting ucm server on http:\/\/0\.0\.0\.0:(\d+)/.exec(text)?.[1];
  return { child, url: `http://127.0.0.1:${port}`, output: () => text, worker };
}

const endless = { prompt: "It was", max_tokens: 20_000, ignore_eos: true, temperature: 0 };

/** A completion whose first bytes have come: it is running, and `end` is its whole text. */
async function runningStream(server: Server, fields: Record<string, unknown>) {
  const response = await fetch(`${server.url}/v1/completions`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ ...endless, stream: true, ...fields }),
  });
  const reader = response.body!.getReader();
  let text = new TextDecoder().decode((await reader.read()).value);
  const end = (async () => {
    for (let chunk = await reader.read(); !chunk.done; chunk = await reader.read()) {
      text += new TextDecoder().decode(chunk.value);
    }
    return text;
  })();
  // A test that ends the server on purpose does not wait for the stream.
  end.catch(() => {});
  return { end };
}

describe("ucm serve", () => {
  it("takes the launch line of UCM on vLLM, and says what this version does not do", async () => {
    const connector = {
      kv_connector: "UnifiedCacheConnectorV1",
      kv_connector_module_path: "unifiedcache.integration.vllm.uc_connector",
      kv_role: "kv_both",
      kv_connector_extra_config: {
        ucm_connector_name: "UcmNfsStore",
        ucm_connector_config: { storage_backends: makeTempFolder(), kv_block_size: 33554432 },
        ucm_sparse_method: "ESA",
      },
    };
    const server = await start(
      [
        ...["--max-model-len", "20000", "--tensor-parallel-size", "2"],
        ...["--gpu_memory_utilization", "0.87", "--trust-remote-code"],
        ...["--kv-transfer-config", JSON.stringify(connector)],
      ],
      { PYTHONHASHSEED: "123456" },
    );
    const all = server.output().match(/WARNING .*/g) ?? [];
    const warnings = all.filter((line) => !line.includes("Default sampling parameters"));
    expect(warnings).toEqual([]);
    expect(server.output()).toContain("Sparse attention ESA: ");
    expect(server.output()).toContain("KV cache store UcmNfsStore: ");
    expect(server.output()).toMatch(
      /^\(APIServer pid=\d+\) INFO \d\d-\d\d \d\d:\d\d:\d\d \[\w[\w-]*\.js:\d+\] ucm API server version/,
    );
    expect(server.output()).toContain("Using max model len 20000");
  });

  it("lets a running request finish on SIGTERM, then exits with 0", async () => {
    const server = await start([]);
    const { end } = await runningStream(server, { max_tokens: 150 });
    server.child.kill("SIGTERM");
    expect(await end).toMatch(/"finish_reason":"length"[\s\S]*data: \[DONE\]\n\n$/);
    const { exitCode } = await server.child;
    expect(exitCode).toBe(0);
    expect(server.output()).toContain("Draining 1 in-flight requests");
    expect(server.output()).toContain("INFO:     Application shutdown complete.\n");
    expect(await isRunning(server.worker)).toBe(false);
  });

  it("aborts what is left after --shutdown-timeout", async () => {
    const server = await start(["--shutdown-timeout", "0.3"]);
    const { end } = await runningStream(server, {});
    server.child.kill("SIGTERM");
    expect(await end).toContain('"finish_reason":"abort"');
    expect((await server.child).exitCode).toBe(0);
  });

  it("leaves at once on the second signal, with its worker", async () => {
    const server = await start([]);
    await runningStream(server, {});
    server.child.kill("SIGINT");
    await until("the drain", () => server.output().includes("Draining"));
    server.child.kill("SIGINT");
    expect((await server.child).exitCode).toBe(130);
    await until("the end of the worker", async () => !(await isRunning(server.worker)));
  });

  it("ends streams truthfully when a worker dies, says so, and serves on by itself", async () => {
    const server = await start(["--tensor-parallel-size", "2", "--cpu-cores-per-worker", "1"]);
    const health = async () => (await fetch(`${server.url}/health`)).status;
    expect(await health()).toBe(200);
    const { end } = await runningStream(server, {});
    process.kill(server.worker, "SIGKILL");
    const text = await end;
    const events = text.split("\n\n").filter((event) => event !== "");
    expect(events.at(-1)).toBe("data: [DONE]");
    expect(JSON.parse(events.at(-2)!.slice("data: ".length)).error).toMatchObject({ code: 503 });
    expect(await health()).toBe(503);
    await until("other workers", async () => (await health()) === 200);
    const again = await runningStream(server, { max_tokens: 3 });
    expect(await again.end).toContain('"finish_reason":"length"');
    expect(server.output()).toMatch(/ERROR .* Worker_TP\d \(pid \d+\) was killed by SIGKILL\./);
  });

  it("goes on when its log cannot be written", async () => {
    const uds = join(makeTempFolder(), "socket");
    const child = startUcm(
      ["serve", demoModel, "--uds", uds],
      {},
      { stdout: { file: "/dev/full" } },
    );
    started.push(child);
    const health = () =>
      new Promise<number | undefined>((resolve) => {
        get({ socketPath: uds, path: "/health" }, ({ statusCode }) => resolve(statusCode)).on(
          "error",
          () => resolve(undefined),
        );
      });
    await until("health", async () => (await health()) === 200);
    child.kill("SIGTERM");
    expect(await child).toMatchObject({ exitCode: 0, stderr: "" });
  });

  it("serves as a YAML file says", async () => {
    const file = join(makeTempFolder(), "serve.yaml");
    writeFileSync(
      file,
      "served-model-name: [first, second]\nmax-model-len: 1K\ndisable-uvicorn-access-log: true\n",
    );
    const server = await start(["--config", file]);
    const models = await (await fetch(`${server.url}/v1/models`)).json();
    expect(models).toMatchObject({
      data: [
        { id: "first", max_model_len: 1024 },
        { id: "second", max_model_len: 1024 },
      ],
    });
    expect(server.output()).not.toContain("GET /v1/models");
  });

  it("writes vLLM's lines of the start, or all lines as JSON", async () => {
    const server = await start(["--max-model-len", "512"]);
    const text = server.output();
    expect(text).toMatch(
      /non-default args: \{'model_tag': '[^']+', 'max_model_len': 512, 'port': 0\}\n/,
    );
    expect(text).toMatch(/GPU KV cache size: [\d,]+ tokens\n/);
    expect(text).toMatch(/Model loading took \d+\.\d\d GiB memory and \d+\.\d{6} seconds/);
    expect(text).toMatch(
      /init engine \(profile, create kv cache, warmup model\) took \d+\.\d\d seconds\n/,
    );
    expect(text).toMatch(/Route: \/v1\/chat\/completions, Methods: POST\n/);
    const json = await start(["--max-model-len", "512", "--log-format", "json"]);
    await fetch(`${json.url}/v1/models`);
    await until("the access line", () => json.output().includes("GET /v1/models"));
    const lines = json
      .output()
      .trimEnd()
      .split("\n")
      .map((line) => JSON.parse(line));
    expect(lines.every(({ time, level, message }) => time && level && message)).toBe(true);
  });

  it("logs each piece of a stream unless told not to", async () => {
    const logged = async (...args: string[]) => {
      const server = await start(["--enable-log-requests", "--enable-log-outputs", ...args]);
      const { end } = await runningStream(server, { max_tokens: 4, ignore_eos: true });
      await end;
      const count = (what: RegExp) => [...server.output().matchAll(what)].length;
      await until("the end", () => count(/ \(streaming complete\): output: .*: length\n/g) === 1);
      return count(/ \(streaming delta\): output: .*, output_token_ids: \[\d+\], finish_reason: /g);
    };
    expect(await logged()).toBe(4);
    expect(await logged("--no-enable-log-deltas")).toBe(0);
  });

  it("gives all memory of its workers back while it sleeps", async () => {
    const server = await start([], { VLLM_SERVER_DEV_MODE: "1" });
    const answer = async () => {
      const body = { prompt: "Once upon a time", max_tokens: 12, temperature: 0 };
      const response = await fetch(`${server.url}/v1/completions`, {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: JSON.stringify(body),
      });
      return ((await response.json()) as { choices: { text: string }[] }).choices[0]!.text;
    };
    const post = async (path: string) =>
      (await fetch(server.url + path, { method: "POST" })).status;
    const expected = await answer();
    const before = await childrenOf(server.child.pid!);
    expect(before).toHaveLength(1);
    expect(await post("/sleep?level=2")).toBe(200);
    expect(await childrenOf(server.child.pid!)).toEqual([]);
    expect((await fetch(`${server.url}/health`)).status).toBe(200);
    const asleep = await (await fetch(`${server.url}/metrics`)).text();
    expect(asleep).toMatch(/^vllm:engine_sleep_state\{.*sleep_state="discard_all"\} 1$/m);
    expect(asleep).toMatch(/^vllm:engine_sleep_state\{.*sleep_state="awake"\} 0$/m);
    const meanwhile = answer();
    expect(await post("/wake_up")).toBe(200);
    expect(await meanwhile).toBe(expected);
    const after = await childrenOf(server.child.pid!);
    expect(after).toHaveLength(1);
    expect(after).not.toEqual(before);
    expect(await post("/sleep")).toBe(200);
    server.child.kill("SIGTERM");
    expect((await server.child).exitCode).toBe(0);
  });

  it("logs requests and throughput when asked", async () => {
    const server = await start(
      ["--enable-log-requests", "--enable-log-outputs", "--max-log-len", "5"],
      { VLLM_LOG_STATS_INTERVAL: "0.3" },
    );
    const { end } = await runningStream(server, { max_tokens: 100 });
    await end;
    expect(server.output()).toMatch(
      /Received request cmpl-\w+-0: params: SamplingParams\(n=1, presence_penalty=0\.0, .*max_tokens=100, .*\), lora_request: None\.\n/,
    );
    await until("the generated text", () =>
      /Generated response cmpl-\w+-0 \(streaming complete\): output: ['"].{5,10}['"], output_token_ids: \[(\d+(, )?){5}\], finish_reason: length\n/.test(
        server.output(),
      ),
    );
    await until("a throughput line", () =>
      /Engine 000: Avg prompt throughput: \d+\.\d tokens\/s/.test(server.output()),
    );
  });
});
