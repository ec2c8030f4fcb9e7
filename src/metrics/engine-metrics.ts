import * as buckets from "./buckets.js";
import { requestSeries, sequenceSeries, snapshotSeries } from "./engine-series.js";
import type {
  EngineObserver,
  EngineSnapshot,
  RequestRecord,
  SequenceRecord,
} from "./observations.js";
import type { SeriesMaker } from "./series.js";

/** What does not change while the engine runs. */
export interface EngineFacts {
  maxModelLen: number;
  /** Labels of vllm:cache_config_info. */
  cacheConfig: Readonly<Record<string, string>>;
}

type Observer = Pick<
  EngineObserver,
  "stepped" | "gotFirstToken" | "gotNextToken" | "sequenceEnded" | "requestEnded"
>;

/** vLLM's series of the engine, under its names. */
export function createEngineMetrics(
  series: SeriesMaker,
  { maxModelLen, cacheConfig }: EngineFacts,
  snapshot: () => EngineSnapshot | null,
): Observer {
  addSnapshotSeries(series, snapshot);
  series.scraped(
    "gauge",
    "vllm:cache_config_info",
    "Information of the LLMEngine CacheConfig.",
    Object.keys(cacheConfig),
    () => [[{ ...cacheConfig }, 1]],
  );
  const stepTokens = series.histogram(
    "vllm:iteration_tokens_total",
    "Tokens computed per engine step.",
    buckets.iterationBuckets,
  );
  const firstToken = series.histogram(
    "vllm:time_to_first_token_seconds",
    "Time to first token in seconds.",
    buckets.firstTokenBuckets,
  );
  const nextToken = series.histogram(
    "vllm:inter_token_latency_seconds",
    "Inter-token latency in seconds.",
    buckets.tokenBuckets,
  );
  return {
    stepped({ numTokens }) {
      if (numTokens > 0) stepTokens(numTokens);
    },
    gotFirstToken: (ms) => firstToken(ms / 1000),
    gotNextToken: (ms) => nextToken(ms / 1000),
    ...addRequestSeries(series, maxModelLen),
  };
}

function addSnapshotSeries(series: SeriesMaker, snapshot: () => EngineSnapshot | null): void {
  for (const { type, name, help, read } of snapshotSeries) {
    const values = () => {
      const now = snapshot();
      const value = now === null ? null : read(now);
      return value === null ? [] : [[{}, value] as [Record<string, string>, number]];
    };
    series.scraped(type, name, help, [], values);
  }
  series.scraped(
    "gauge",
    "vllm:engine_sleep_state",
    "Engine sleep state; awake = 0 means sleeping, then one of the others is 1.",
    ["sleep_state"],
    () => {
      const now = snapshot();
      if (now === null) return [];
      return [
        [{ sleep_state: "awake" }, now.isAsleep ? 0 : 1],
        [{ sleep_state: "weights_offloaded" }, 0],
        [{ sleep_state: "discard_all" }, now.isAsleep ? 1 : 0],
      ];
    },
  );
  series.scraped(
    "total",
    "vllm:prompt_tokens_by_source_total",
    "Number of prompt tokens by where their keys and values came from.",
    ["source"],
    () => {
      const now = snapshot();
      if (now === null) return [];
      const { computed, cached, loaded } = now.promptTokensBySource;
      return [
        [{ source: "local_compute" }, computed],
        [{ source: "local_cache_hit" }, cached],
        [{ source: "external_kv_transfer" }, loaded],
      ];
    },
  );
}

function addRequestSeries(series: SeriesMaker, maxModelLen: number) {
  const success = series.events(
    "vllm:request_success_total",
    "Count of requests that ended, by how.",
    "finished_reason",
    ["stop", "length", "abort", "error"],
  );
  const bounds = {
    tokens: buckets.oneTwoFive(maxModelLen),
    seconds: buckets.requestBuckets,
    perToken: buckets.tokenBuckets,
    n: [1, 2, 5, 10, 20],
  };
  const ofSequence = sequenceSeries.map(({ name, help, unit, read }) => {
    const observe = series.histogram(name, help, bounds[unit]);
    return (record: SequenceRecord) => {
      const value = read(record);
      if (value !== null) observe(value);
    };
  });
  const ofRequest = requestSeries.map(({ name, help, unit, read }) => {
    const observe = series.histogram(name, help, bounds[unit]);
    return (record: RequestRecord) => observe(read(record));
  });
  return {
    /** Distributions are of what ended by itself: an abort says nothing of the engine's speed. */
    sequenceEnded(record: SequenceRecord): void {
      const { finishedReason } = record;
      success(finishedReason);
      if (finishedReason === "abort" || finishedReason === "error") return;
      for (const observe of ofSequence) observe(record);
    },
    requestEnded(record: RequestRecord): void {
      for (const observe of ofRequest) observe(record);
    },
  };
}
