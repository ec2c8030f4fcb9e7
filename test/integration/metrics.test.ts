import { afterAll, describe, expect, it } from "vitest";
import { parseExposition, type Sample, sampleOf } from "../helpers/exposition.js";
import { makeTempFolder } from "../helpers/temp-folder.js";
import { demoModel, startUcm, until } from "../helpers/ucm-command.js";

const started: ReturnType<typeof startUcm>[] = [];

afterAll(async () => {
  for (const child of started) {
    child.kill("SIGTERM");
    await child;
  }
});

async function serve(args: string[]) {
  const child = startUcm(["serve", demoModel, "--host", "127.0.0.1", "--port", "0", ...args]);
  started.push(child);
  let text = "";
  child.stdout?.on("data", (more) => {
    text += more;
  });
  await until("the start", () => {
    if (child.exitCode !== null) throw new Error(text);
    return text.includes("Application startup complete.");
  });
  return /Starting ucm server on (http:\S+)/.exec(text)![1]!;
}

async function scrape(url: string): Promise<Sample[]> {
  return parseExposition(await (await fetch(`${url}/metrics`)).text());
}

interface Usage {
  prompt_tokens: number;
  completion_tokens: number;
  prompt_tokens_details: { cached_tokens: number };
}

async function complete(url: string, fields: Record<string, unknown>): Promise<Usage> {
  const response = await fetch(`${url}/v1/completions`, {
    method: "POST",
    headers: { "content-type": "application/json", authorization: "Bearer secret" },
    body: JSON.stringify({ temperature: 0, ignore_eos: true, ...fields }),
  });
  const body = await response.json();
  expect(body).toHaveProperty("usage");
  return (body as { usage: Usage }).usage;
}

const store = (folder: string) =>
  JSON.stringify({
    kv_connector: "UnifiedCacheConnectorV1",
    kv_role: "kv_both",
    kv_connector_extra_config: {
      ucm_connector_name: "UcmNfsStore",
      ucm_connector_config: { storage_backends: folder },
      load_decision: "always",
    },
  });

const sparse = (settings: Record<string, unknown>, max_cache_size: number) =>
  JSON.stringify({
    kv_connector: "UnifiedCacheConnectorV1",
    kv_role: "kv_both",
    kv_connector_extra_config: {
      ucm_connector_name: "UcmDram",
      ucm_connector_config: { max_cache_size },
      ucm_sparse_config: { ESA: { recall_every: 1, ...settings } },
    },
  });

const long =
  "The old keeper climbed the stairs every night, and the lamp was lit before the ships came. ";

describe("GET /metrics", () => {
  it("tells the true numbers of requests, tokens and blocks, across a restart", async () => {
    const folder = makeTempFolder();
    const args = [
      ...["--kv-transfer-config", store(folder), "--api-key", "secret"],
      ...["--served-model-name", "demo"],
    ];
    const url = await serve(args);
    const labels = { model_name: "demo", engine: "0" };
    const usages = [
      await complete(url, { prompt: long.repeat(6), max_tokens: 7 }),
      await complete(url, { prompt: long.repeat(6), max_tokens: 9 }),
      await complete(url, { prompt: "Once", max_tokens: 5, n: 2, temperature: 1 }),
    ];
    const refused = await fetch(`${url}/v1/completions`, { method: "POST", body: "{}" });
    expect(refused.status).toBe(401);

    const response = await fetch(`${url}/metrics`);
    expect(response.headers.get("content-type")).toBe("text/plain; version=0.0.4; charset=utf-8");
    const samples = parseExposition(await response.text());
    const value = (name: string, more = {}) => sampleOf(samples, name, { ...labels, ...more });
    const prompt = usages.map((usage) => usage.prompt_tokens);
    const generated = usages.reduce((sum, usage) => sum + usage.completion_tokens, 0);
    expect(generated).toBe(7 + 9 + 10);
    expect(value("vllm:generation_tokens_total")).toBe(generated);
    // Each of the n sequences has the prompt.
    const promptTokens = prompt[0]! + prompt[1]! + 2 * prompt[2]!;
    expect(value("vllm:prompt_tokens_total")).toBe(promptTokens);
    expect(value("vllm:prompt_tokens_cached_total")).toBe(
      usages[1]!.prompt_tokens_details.cached_tokens,
    );
    expect(value("vllm:request_success_total", { finished_reason: "length" })).toBe(4);
    expect(value("vllm:request_generation_tokens_sum")).toBe(generated);
    expect(value("vllm:request_prompt_tokens_sum")).toBe(promptTokens);
    expect(value("vllm:request_params_n_sum")).toBe(4);
    expect(value("vllm:request_params_max_tokens_sum")).toBe(7 + 9 + 5 + 5);
    expect(value("vllm:time_to_first_token_seconds_count")).toBe(4);
    expect(value("vllm:inter_token_latency_seconds_count")).toBe(generated - 4);
    expect(value("vllm:num_requests_running")).toBe(0);
    expect(value("vllm:iteration_tokens_total_sum")).toBe(
      promptTokens - usages[1]!.prompt_tokens_details.cached_tokens + generated - 4,
    );
    const completions = { handler: "/v1/completions", method: "POST" };
    expect(sampleOf(samples, "http_requests_total", { ...completions, status: "2xx" })).toBe(3);
    expect(sampleOf(samples, "http_requests_total", { ...completions, status: "4xx" })).toBe(1);

    // All full blocks are stored, each once; the last token of a sequence is never computed.
    const full = (tokens: number) => Math.floor(tokens / 16);
    const stored = full(prompt[0]! + 9 - 1) + full(prompt[2]! + 5 - 1);
    await until("the blocks in files", async () => {
      const later = await scrape(url);
      return sampleOf(later, "ucm:store_dumped_blocks_total", { tier: "files" }) === stored;
    });
    const later = await scrape(url);
    expect(sampleOf(later, "ucm:save_blocks_num_sum")).toBe(stored);
    expect(sampleOf(later, "ucm:save_duration_count")).toBeGreaterThan(0);
    expect(sampleOf(later, "ucm:store_corrupt_blocks_total")).toBe(0);

    const again = await serve(args);
    const { prompt_tokens_details: details } = await complete(again, {
      ...{ prompt: long.repeat(6), max_tokens: 2 },
    });
    const loaded = details.cached_tokens;
    expect(loaded).toBe(full(prompt[0]! - 1) * 16);
    await until("the blocks that were loaded", async () => {
      const now = await scrape(again);
      return sampleOf(now, "ucm:load_duration_count") === 1;
    });
    const restarted = await scrape(again);
    const of = (name: string, more = {}) => sampleOf(restarted, name, more);
    expect(of("vllm:external_prefix_cache_hits_total")).toBe(loaded);
    const external = { source: "external_kv_transfer" };
    expect(of("vllm:prompt_tokens_by_source_total", external)).toBe(loaded);
    expect(of("ucm:load_blocks_num_sum")).toBe(loaded / 16);
    expect(of("ucm:store_loaded_blocks_total")).toBe(loaded / 16);
    expect(of("ucm:interval_lookup_hit_rates_sum")).toBeCloseTo(loaded / 16 / full(prompt[0]!), 9);
    expect(of("ucm:load_speed_sum")).toBeGreaterThan(0);
  });

  it("tells what sparse attention kept, saved, read and missed", async () => {
    const ratio = 0.2;
    const args = ["--served-model-name", "demo"];
    const transfer = sparse({ sparse_ratio: ratio }, 2 ** 28);
    const url = await serve([...args, "--kv-transfer-config", transfer]);
    const before = await scrape(url);
    expect(sampleOf(before, "ucm:sparse_sequences_total", { method: "ESA" })).toBe(0);
    const startMs = performance.now();
    const usages = await Promise.all(
      [30, 40].map((times) =>
        complete(url, { prompt: `${times} ${long.repeat(times)}`, max_tokens: 200 }),
      ),
    );
    await complete(url, { prompt: "Once", max_tokens: 5 });
    // The workers hear of the end of a sequence with the step after it.
    await until("the end of both", async () => {
      const now = await scrape(url);
      return sampleOf(now, "ucm:sparse_representation_bytes") === 0;
    });
    const seconds = (performance.now() - startMs) / 1000;
    const samples = await scrape(url);
    const value = (name: string, labels = {}) =>
      sampleOf(samples, `ucm:sparse_${name}`, { model_name: "demo", engine: "0", ...labels });
    const ofMethod = (name: string) => value(name, { method: "ESA" })!;

    const promptBlocks = usages.map((usage) => Math.ceil(usage.prompt_tokens / 16));
    const dropped = promptBlocks.map((blocks) => blocks - 3 - Math.floor((blocks - 3) * ratio));
    const sum = (numbers: number[]) => numbers.reduce((total, number) => total + number, 0);
    expect(ofMethod("sequences_total")).toBe(2);
    expect(ofMethod("running_sequences")).toBe(0);
    expect(ofMethod("prompt_blocks_total")).toBe(sum(promptBlocks));
    expect(ofMethod("kept_blocks_total")).toBe(sum(promptBlocks) - sum(dropped));
    // 8 layers of 2 KV heads of 64: keys and values of 16 tokens and two vectors more, in bf16.
    const bytes = 8 * 2 * 64 * (2 * 16 + 2) * 2;
    expect(ofMethod("saved_bytes")).toBe(0);
    const peak = ofMethod("peak_saved_bytes");
    expect(peak).toBeGreaterThanOrEqual(bytes * Math.max(...dropped));
    expect(peak).toBeLessThanOrEqual(bytes * sum(dropped));
    expect(peak % bytes).toBe(0);

    expect(ofMethod("selections_total")).toBeGreaterThan(2);
    expect(ofMethod("early_selections_total")).toBe(0);
    expect(ofMethod("loaded_pieces_total")).toBeGreaterThan(0);
    for (const name of ["retrieval", "load", "switch"]) {
      expect(ofMethod(`${name}_seconds_total`)).toBeGreaterThan(0);
      // Two sequences' times may overlap.
      expect(ofMethod(`${name}_seconds_total`)).toBeLessThan(2 * seconds);
    }
    expect(ofMethod("wait_seconds_total") > 0).toBe(ofMethod("late_steps_total") > 0);
    expect(ofMethod("dense_layer_bytes")).toBe(0);
    expect(value("fallbacks_total", { reason: "store_full" })).toBe(0);
    expect(value("fallbacks_total", { reason: "block_lost" })).toBe(0);
    const recalls = value("recall_count")!;
    expect(recalls).toBeGreaterThan(0);
    expect(value("recall_bucket", { le: "1" })).toBe(recalls);
    expect(value("recall_sum")! / recalls).toBeGreaterThan(0.2);
    expect(value("recall_sum")! / recalls).toBeLessThanOrEqual(1);

    const full = await serve(["--kv-transfer-config", sparse({}, 300_000)]);
    await until("a request that the store has no room for", async () => {
      await complete(full, { prompt: long.repeat(9), max_tokens: 20 });
      const now = await scrape(full);
      return sampleOf(now, "ucm:sparse_fallbacks_total", { reason: "store_full" })! > 0;
    });
    expect(sampleOf(await scrape(full), "ucm:sparse_sequences_total")).toBe(0);
  });

  it("has nothing of the engine under --disable-log-stats", async () => {
    const url = await serve(["--disable-log-stats"]);
    await complete(url, { prompt: "Once", max_tokens: 2 });
    const names = (await scrape(url)).map(({ name }) => name);
    expect(names.filter((name) => /^(vllm|ucm):/.test(name))).toEqual([]);
    expect(names).toContain("http_requests_total");
  });
});
