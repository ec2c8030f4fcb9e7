import type { EngineSnapshot, RequestRecord, SequenceRecord } from "./observations.js";
import type { ScrapedType } from "./series.js";

interface SnapshotSeries {
  type: ScrapedType;
  name: string;
  help: string;
  /** Null leaves the series out. */
  read(now: EngineSnapshot): number | null;
}

/** Series that are read from the engine at each scrape: vLLM's names and words. */
export const snapshotSeries: readonly SnapshotSeries[] = [
  {
    type: "gauge",
    name: "vllm:num_requests_running",
    help: "Number of requests in model execution batches.",
    read: ({ running }) => running,
  },
  {
    type: "gauge",
    name: "vllm:num_requests_waiting",
    help: "Number of requests waiting to be processed.",
    read: ({ waiting }) => waiting,
  },
  {
    type: "gauge",
    name: "vllm:kv_cache_usage_perc",
    help: "KV-cache usage. 1 means 100 percent usage.",
    read: ({ usedBlocks, numBlocks }) => usedBlocks / numBlocks,
  },
  {
    type: "total",
    name: "vllm:prefix_cache_queries_total",
    help: "Prefix cache queries, in terms of number of queried tokens.",
    read: ({ prefixCacheQueries }) => prefixCacheQueries,
  },
  {
    type: "total",
    name: "vllm:prefix_cache_hits_total",
    help: "Prefix cache hits, in terms of number of cached tokens.",
    read: ({ prefixCacheHits }) => prefixCacheHits,
  },
  {
    type: "total",
    name: "vllm:external_prefix_cache_queries_total",
    help: "External prefix cache queries from KV connector, in terms of number of queried tokens.",
    read: ({ externalPrefixCache }) => externalPrefixCache?.queries ?? null,
  },
  {
    type: "total",
    name: "vllm:external_prefix_cache_hits_total",
    help: "External prefix cache hits from KV connector, in terms of number of cached tokens.",
    read: ({ externalPrefixCache }) => externalPrefixCache?.hits ?? null,
  },
  {
    type: "total",
    name: "vllm:num_preemptions_total",
    help: "Cumulative number of preemption from the engine.",
    read: ({ numPreemptions }) => numPreemptions,
  },
  {
    type: "total",
    name: "vllm:prompt_tokens_total",
    help: "Number of prefill tokens processed.",
    read: ({ promptTokens }) => promptTokens,
  },
  {
    type: "total",
    name: "vllm:prompt_tokens_cached_total",
    help: "Number of prompt tokens found in a cache, local or external.",
    read: ({ promptTokensBySource: { cached, loaded } }) => cached + loaded,
  },
  {
    type: "total",
    name: "vllm:generation_tokens_total",
    help: "Number of generation tokens processed.",
    read: ({ generatedTokens }) => generatedTokens,
  },
];

/** What a histogram counts, which decides on its buckets. */
type Unit = "tokens" | "seconds" | "perToken" | "n";

interface RecordSeries<Record, Value> {
  name: string;
  help: string;
  unit: Unit;
  read(record: Record): Value;
}

/** Seconds between two moments in milliseconds; null when one did not come. */
function between(fromMs: number | null, toMs: number | null): number | null {
  return fromMs === null || toMs === null ? null : (toMs - fromMs) / 1000;
}

/** Histograms of sequences that ended; vLLM counts each of the n of a request, too. */
export const sequenceSeries: readonly RecordSeries<SequenceRecord, number | null>[] = [
  {
    name: "vllm:request_prompt_tokens",
    help: "Number of prefill tokens processed.",
    unit: "tokens",
    read: ({ promptTokens }) => promptTokens,
  },
  {
    name: "vllm:request_generation_tokens",
    help: "Number of generation tokens processed.",
    unit: "tokens",
    read: ({ generatedTokens }) => generatedTokens,
  },
  {
    name: "vllm:request_params_max_tokens",
    help: "Histogram of the max_tokens request parameter.",
    unit: "tokens",
    read: ({ maxTokens }) => maxTokens,
  },
  {
    name: "vllm:request_prefill_kv_computed_tokens",
    help: "Histogram of new KV tokens computed during prefill (excluding cached tokens).",
    unit: "tokens",
    read: ({ promptTokens, cachedTokens }) => promptTokens - cachedTokens,
  },
  {
    name: "vllm:e2e_request_latency_seconds",
    help: "Histogram of e2e request latency in seconds.",
    unit: "seconds",
    read: ({ arrivalMs, endMs }) => between(arrivalMs, endMs),
  },
  {
    name: "vllm:request_queue_time_seconds",
    help: "Histogram of time spent in WAITING phase for request.",
    unit: "seconds",
    read: ({ arrivalMs, scheduledMs }) => between(arrivalMs, scheduledMs),
  },
  {
    name: "vllm:request_inference_time_seconds",
    help: "Histogram of time spent in RUNNING phase for request.",
    unit: "seconds",
    read: ({ scheduledMs, lastTokenMs }) => between(scheduledMs, lastTokenMs),
  },
  {
    name: "vllm:request_prefill_time_seconds",
    help: "Histogram of time spent in PREFILL phase for request.",
    unit: "seconds",
    read: ({ scheduledMs, firstTokenMs }) => between(scheduledMs, firstTokenMs),
  },
  {
    name: "vllm:request_decode_time_seconds",
    help: "Histogram of time spent in DECODE phase for request.",
    unit: "seconds",
    read: ({ firstTokenMs, lastTokenMs }) => between(firstTokenMs, lastTokenMs),
  },
  {
    name: "vllm:request_time_per_output_token_seconds",
    help: "Histogram of time_per_output_token_seconds per request.",
    unit: "perToken",
    read: ({ firstTokenMs, lastTokenMs, generatedTokens }) => {
      const decode = generatedTokens > 1 ? between(firstTokenMs, lastTokenMs) : null;
      return decode === null ? null : decode / (generatedTokens - 1);
    },
  },
];

/** Histograms of requests all of whose sequences have ended. */
export const requestSeries: readonly RecordSeries<RequestRecord, number>[] = [
  {
    name: "vllm:request_params_n",
    help: "Histogram of the n request parameter.",
    unit: "n",
    read: ({ n }) => n,
  },
  {
    name: "vllm:request_max_num_generation_tokens",
    help: "Histogram of maximum number of requested generation tokens.",
    unit: "tokens",
    read: ({ maxGeneratedTokens }) => maxGeneratedTokens,
  },
];
