import { describe, expect, it } from "vitest";
import { oneTwoFive, transferBlockBuckets } from "../../../src/metrics/buckets.js";
import {
  type EngineSnapshot,
  type SequenceRecord,
  ServingMetrics,
} from "../../../src/metrics/index.js";
import { parseExposition, sampleOf } from "../../helpers/exposition.js";
import { testSparseSnapshot } from "../../helpers/sparse-snapshot.js";

const make = (hasEngineSeries = true) =>
  new ServingMetrics({
    modelName: "demo",
    hasEngineSeries,
    maxModelLen: 1000,
    cacheConfig: { block_size: "16" },
  });

const snapshot: EngineSnapshot = {
  running: 3,
  waiting: 2,
  usedBlocks: 5,
  numBlocks: 20,
  numPreemptions: 1,
  prefixCacheQueries: 100,
  prefixCacheHits: 40,
  externalPrefixCache: { queries: 60, hits: 32 },
  promptTokens: 100,
  generatedTokens: 17,
  promptTokensBySource: { computed: 28, cached: 40, loaded: 32 },
  stores: [
    { rank: 0, tiers: { files: { lookups: 9, loadMicros: 2_500_000, usedBytes: 7 } } },
    { rank: 1, tiers: { files: { lookups: 4 }, memory: { lookups: 2 } } },
  ],
  sparse: null,
  isAsleep: false,
};

const record: SequenceRecord = {
  finishedReason: "stop",
  promptTokens: 30,
  generatedTokens: 5,
  maxTokens: 10,
  cachedTokens: 16,
  arrivalMs: 1_000,
  scheduledMs: 1_500,
  firstTokenMs: 2_500,
  lastTokenMs: 4_500,
  endMs: 4_600,
};

const engine = { model_name: "demo", engine: "0" };

async function scrape(metrics: ServingMetrics) {
  return parseExposition(await metrics.render());
}

describe("ServingMetrics", () => {
  it("reads totals and load at each scrape", async () => {
    const metrics = make();
    metrics.readFrom(() => snapshot);
    const samples = await scrape(metrics);
    const value = (name: string, labels = {}) => sampleOf(samples, name, { ...engine, ...labels });
    expect(value("vllm:num_requests_running")).toBe(3);
    expect(value("vllm:kv_cache_usage_perc")).toBe(0.25);
    expect(value("vllm:prompt_tokens_cached_total")).toBe(72);
    expect(value("vllm:external_prefix_cache_hits_total")).toBe(32);
    expect(value("vllm:prompt_tokens_by_source_total", { source: "local_compute" })).toBe(28);
    expect(value("vllm:cache_config_info", { block_size: "16" })).toBe(1);
    expect(value("ucm:store_lookups_total", { worker_id: "1", tier: "memory" })).toBe(2);
    expect(value("ucm:store_load_seconds_total", { worker_id: "0" })).toBe(2.5);
    metrics.readFrom(() => ({ ...snapshot, generatedTokens: 18, stores: [] }));
    const later = await scrape(metrics);
    expect(sampleOf(later, "vllm:generation_tokens_total")).toBe(18);
    expect(later.some(({ name }) => name === "ucm:store_lookups_total")).toBe(false);
  });

  it("has what sparse attention came to, each number under its name", async () => {
    const metrics = make();
    metrics.readFrom(() => ({ ...snapshot, sparse: testSparseSnapshot }));
    metrics.observer!.recalled(0.72);
    metrics.observer!.recalled(0.98);
    const samples = await scrape(metrics);
    const names = [
      ...["running_sequences", "sequences_total", "prompt_blocks_total", "kept_blocks_total"],
      ...["saved_bytes", "peak_saved_bytes", "representation_bytes", "dense_layer_bytes"],
      ...["selections_total", "early_selections_total", "late_steps_total"],
      ...["loaded_pieces_total", "kept_pieces_total"],
      ...["retrieval", "load", "switch", "wait"].map((what) => `${what}_seconds_total`),
    ];
    const { running, entered, promptBlocks, keptBlocks, savedBytes, peakSavedBytes, counts } =
      testSparseSnapshot;
    const given = counts!;
    expect(
      names.map((name) => sampleOf(samples, `ucm:sparse_${name}`, { ...engine, method: "ESA" })),
    ).toEqual([
      ...[running, entered, promptBlocks, keptBlocks],
      ...[savedBytes, peakSavedBytes, given.representationBytes, given.denseLayerBytes],
      ...[given.selections, given.earlySelections, given.lateSteps],
      ...[given.loadedPieces, given.keptPieces],
      ...[given.selectMicros, given.loadMicros, given.switchMicros, given.waitMicros].map(
        (micros) => micros / 1e6,
      ),
    ]);
    const fallbacks = (reason: string) =>
      sampleOf(samples, "ucm:sparse_fallbacks_total", { ...engine, reason });
    expect([fallbacks("store_full"), fallbacks("block_lost")]).toEqual([
      testSparseSnapshot.refused,
      testSparseSnapshot.lost,
    ]);
    const recall = (part: string, labels = {}) =>
      sampleOf(samples, `ucm:sparse_recall_${part}`, labels);
    expect([recall("count"), recall("sum")]).toEqual([2, 0.72 + 0.98]);
    expect([recall("bucket", { le: "0.7" }), recall("bucket", { le: "0.75" })]).toEqual([0, 1]);
  });

  it("leaves out what no worker has told of sparse attention, or all of it", async () => {
    const metrics = make();
    const names = async () => (await scrape(metrics)).map(({ name }) => name);
    metrics.readFrom(() => ({ ...snapshot, sparse: { ...testSparseSnapshot, counts: null } }));
    expect(await names()).toContain("ucm:sparse_kept_blocks_total");
    expect(await names()).not.toContain("ucm:sparse_selections_total");
    metrics.readFrom(() => snapshot);
    const scraped = (await names()).filter((name) => name.startsWith("ucm:sparse_"));
    expect(scraped.filter((name) => !name.startsWith("ucm:sparse_recall"))).toEqual([]);
  });

  it("observes what ended by itself, and counts all that ended", async () => {
    const metrics = make();
    const observer = metrics.observer!;
    observer.sequenceEnded(record);
    observer.sequenceEnded({ ...record, finishedReason: "abort", firstTokenMs: null });
    observer.requestEnded({ n: 2, maxGeneratedTokens: 5 });
    observer.gotFirstToken(70);
    observer.stepped({ ...steps, numTokens: 0 });
    observer.stepped({ ...steps, numTokens: 12, loadRequests: 2, loadBlocks: 60 });
    observer.transferred({ kind: "load", blocks: 60, bytes: 3e9, durationMs: 1_500 });
    observer.lookedUp(0.25);
    const samples = await scrape(metrics);
    const sum = (name: string) => [
      sampleOf(samples, `${name}_sum`, engine),
      sampleOf(samples, `${name}_count`, engine),
    ];
    expect(sampleOf(samples, "vllm:request_success_total", { finished_reason: "abort" })).toBe(1);
    expect(sampleOf(samples, "vllm:request_success_total", { finished_reason: "error" })).toBe(0);
    expect(sum("vllm:request_queue_time_seconds")).toEqual([0.5, 1]);
    expect(sum("vllm:request_prefill_time_seconds")).toEqual([1, 1]);
    expect(sum("vllm:request_decode_time_seconds")).toEqual([2, 1]);
    expect(sum("vllm:request_inference_time_seconds")).toEqual([3, 1]);
    expect(sum("vllm:e2e_request_latency_seconds")).toEqual([3.6, 1]);
    expect(sum("vllm:request_time_per_output_token_seconds")).toEqual([0.5, 1]);
    expect(sum("vllm:request_prefill_kv_computed_tokens")).toEqual([14, 1]);
    expect(sum("vllm:iteration_tokens_total")).toEqual([12, 1]);
    expect(sum("vllm:time_to_first_token_seconds")).toEqual([0.07, 1]);
    expect(sum("ucm:load_requests_num")).toEqual([2, 1]);
    expect(sum("ucm:load_blocks_num")).toEqual([60, 1]);
    expect(sum("ucm:load_speed")).toEqual([2, 1]);
    expect(sum("ucm:save_requests_num")).toEqual([0, 0]);
    const bucket = (le: string) =>
      sampleOf(samples, "vllm:time_to_first_token_seconds_bucket", { le });
    expect([bucket("0.06"), bucket("0.08")]).toEqual([0, 1]);
  });

  it("has no series of the engine without statistics, but those of the process and HTTP", async () => {
    const metrics = make(false);
    metrics.readFrom(() => snapshot);
    const record = { handler: "/v1/completions", method: "POST", status: 404 };
    metrics.observeHttp({ ...record, durationMs: 200, requestBytes: 10, responseBytes: 30 });
    const samples = await scrape(metrics);
    expect(metrics.observer).toBeNull();
    expect(samples.filter(({ name }) => /^(vllm|ucm):/.test(name))).toEqual([]);
    expect(sampleOf(samples, "http_requests_total", { status: "4xx" })).toBe(1);
    expect(sampleOf(samples, "http_response_size_bytes_sum")).toBe(30);
    expect(sampleOf(samples, "process_resident_memory_bytes")).toBeGreaterThan(1e6);
  });
});

const steps = { loadRequests: 0, loadBlocks: 0, saveRequests: 0, saveBlocks: 0 };

describe("buckets", () => {
  it("go 1, 2, 5 up to the model's length, and as UCM has them", () => {
    expect(oneTwoFive(150)).toEqual([1, 2, 5, 10, 20, 50, 100]);
    expect(oneTwoFive(1)).toEqual([1]);
    expect(transferBlockBuckets.slice(7, 11)).toEqual([350, 400, 550, 600]);
  });
});
