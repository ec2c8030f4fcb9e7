import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { makeTempFolder } from "../helpers/temp-folder.js";
import { demoModel, runUcm, startUcm, until } from "../helpers/ucm-command.js";

const folder = makeTempFolder();
const prompt = join(folder, "prompt.txt");
const text =
  "The old keeper climbed the stairs of the lighthouse every night, and every night the lamp was lit before the ships came home. ";
writeFileSync(prompt, text.repeat(12));

/** A fresh backend folder. */
let numBackends = 0;
const newBackend = () => join(folder, `kv-${++numBackends}`);

/**
 * The user's document: kv_block_size as it is there, folders of our own, and ESA, at a ratio that leaves
 * attention dense.
 */
const flat = (extra: Record<string, unknown>) => ({
  kv_connector: "UnifiedCacheConnectorV1",
  kv_connector_module_path: "unifiedcache.integration.vllm.uc_connector",
  kv_role: "kv_both",
  kv_connector_extra_config: {
    ...extra,
    ucm_sparse_method: "ESA",
    ucm_sparse_config: { ESA: { sparse_ratio: 1 } },
  },
});

const nfs = (backend: string) =>
  flat({
    ucm_connector_name: "UcmNfsStore",
    ucm_connector_config: { storage_backends: backend, kv_block_size: 33554432 },
  });

const dram = flat({
  ucm_connector_name: "UcmDram",
  ucm_connector_config: { max_cache_size: 5368709120, kv_block_size: 262144 },
});

function yaml(backend: string) {
  const path = `${backend}.yaml`;
  writeFileSync(
    path,
    `ucm_connectors:
  - ucm_connector_name: "UcmPipelineStore"
    ucm_connector_config:
      store_pipeline: "Cache|Posix"
      storage_backends: "${backend}"
      cache_buffer_capacity_gb: 0.1
`,
  );
  return {
    kv_connector: "UCMConnector",
    kv_connector_module_path: "ucm.integration.vllm.ucm_connector",
    kv_role: "kv_both",
    kv_connector_extra_config: { UCM_CONFIG_FILE: path },
  };
}

async function offline(config: unknown, args: string[] = []) {
  const out = join(folder, "out.jsonl");
  const result = await runUcm(
    [
      "offline",
      ...["--prompt-file", prompt, "--output-file", out, "--temperature", "0"],
      ...["--max-tokens", "16", "--logprobs", "3"],
      ...(config === null ? [] : ["--kv-transfer-config", JSON.stringify(config)]),
      ...args,
    ],
    { PYTHONHASHSEED: "123456" },
  );
  expect(result.stderr).not.toContain("Error");
  expect(result.exitCode).toBe(0);
  return JSON.parse(readFileSync(out, "utf8"));
}

const bits = (record: { token_ids: number[]; logprobs: unknown }) => ({
  tokenIds: record.token_ids,
  logprobs: record.logprobs,
});

describe("ucm offline with a KV cache store", () => {
  it.each([
    ["UcmNfsStore", nfs],
    ["a pipeline from UCM_CONFIG_FILE", yaml],
  ])("finds with %s what an earlier run computed, to the bit", async (_, make) => {
    const plain = await offline(null);
    const backend = newBackend();
    const first = await offline(make(backend));
    const second = await offline(make(backend));
    expect([bits(first), bits(second)]).toEqual([bits(plain), bits(plain)]);
    expect(first.usage.cached_tokens).toBe(0);
    const { prompt_tokens: promptTokens } = second.usage;
    expect(second.usage.cached_tokens).toBe(Math.floor((promptTokens - 1) / 16) * 16);
    const int8 = await offline(make(backend), ["--quantization", "int8"]);
    expect(int8.usage.cached_tokens).toBe(0);
  });

  it("takes the document's UcmDram", async () => {
    expect(bits(await offline(dram))).toEqual(bits(await offline(null)));
  });

  it("says what is wrong with a configuration, and exits with 2", async () => {
    const bad = flat({ ucm_connector_name: "UcmNfs", ucm_connector_config: {} });
    const { exitCode, stderr } = await runUcm([
      "offline",
      ...["--prompt-file", prompt, "--kv-transfer-config", JSON.stringify(bad)],
    ]);
    expect(exitCode).toBe(2);
    expect(stderr).toContain("ucm_connector_name 'UcmNfs' is not known");
    expect(stderr).not.toContain("    at ");
  });
});

describe("ucm serve with a KV cache store", () => {
  it("tells of hits in the usage, in a line per request and in the statistics", async () => {
    const backend = newBackend();
    await offline(nfs(backend));
    expect(readdirSync(backend)).toEqual(["ucm-v1"]);
    const child = startUcm(
      [
        ...["serve", demoModel, "--port", "0"],
        ...["--kv-transfer-config", JSON.stringify(nfs(backend))],
      ],
      { PYTHONHASHSEED: "123456", VLLM_LOG_STATS_INTERVAL: "1" },
    );
    let output = "";
    child.stdout?.on("data", (chunk) => {
      output += chunk;
    });
    try {
      await until("start-up", () => output.includes("Application startup complete."));
      const port = /Starting ucm server on http:\/\/0\.0\.0\.0:(\d+)/.exec(output)?.[1];
      const response = await fetch(`http://127.0.0.1:${port}/v1/completions`, {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: JSON.stringify({ prompt: text.repeat(12), max_tokens: 4, temperature: 0 }),
      });
      const { usage } = (await response.json()) as {
        usage: { prompt_tokens: number; prompt_tokens_details: { cached_tokens: number } };
      };
      const cached = Math.floor((usage.prompt_tokens - 1) / 16) * 16;
      expect(usage.prompt_tokens_details.cached_tokens).toBe(cached);
      const computed = usage.prompt_tokens - cached;
      expect(output).toMatch(
        new RegExp(
          `prompt tokens: ${usage.prompt_tokens}, computed: ${computed}, hit in KV cache: 0, in DRAM: 0, in files: ${cached}`,
        ),
      );
      await until("statistics", () => output.includes("External prefix cache hit rate: "));
      const rate = /External prefix cache hit rate: ([\d.]+)%/.exec(output)?.[1];
      expect(Number(rate)).toBeGreaterThan(90);
    } finally {
      child.kill("SIGKILL");
      await child;
    }
  });
});

it("accelerates UCM's document as it is written, and says how", async () => {
  const long = join(folder, "long.txt");
  writeFileSync(long, text.repeat(60));
  const document = {
    kv_connector: "UnifiedCacheConnectorV1",
    kv_connector_module_path: "unifiedcache.integration.vllm.uc_connector",
    kv_role: "kv_both",
    kv_connector_extra_config: {
      ucm_connector_name: "UcmDram",
      ucm_connector_config: { max_cache_size: 5368709120, kv_block_size: 262144 },
      ucm_sparse_method: "ESA",
    },
  };
  const result = await runUcm(
    [
      ...["offline", "--prompt-file", long, "--temperature", "0", "--ignore-eos"],
      ...["--max-tokens", "40", "--kv-transfer-config", JSON.stringify(document)],
    ],
    { PYTHONHASHSEED: "123456" },
  );
  expect(result.exitCode).toBe(0);
  expect(result.stderr).toMatch(/ESA +1 sequence, blocks kept \d+ of \d+ \(3\d %\)/);
  expect(result.stderr).toMatch(/Attention +[\d.]+ ms per decode step, dense-equivalent [\d.]+ ms/);
  expect(result.stderr).toMatch(/Retrieval +\d+ selections/);
});
