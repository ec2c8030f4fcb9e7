import { recallBuckets } from "./buckets.js";
import type { EngineObserver, EngineSnapshot, SparseSnapshot } from "./observations.js";
import type { Labels, ScrapedType, SeriesMaker } from "./series.js";

interface SparseSeries {
  type: ScrapedType;
  /** After `ucm:sparse_`. */
  name: string;
  help: string;
  /** Undefined leaves the series out: the workers have not told of any sequence yet. */
  read(now: SparseSnapshot): number | undefined;
}

const seconds = (micros: number | undefined) => (micros === undefined ? undefined : micros / 1e6);

const sparseSeries: readonly SparseSeries[] = [
  {
    type: "gauge",
    name: "running_sequences",
    help: "Sequences with sparse attention now.",
    read: ({ running }) => running,
  },
  {
    type: "total",
    name: "sequences_total",
    help: "Times that a sequence went over to sparse attention.",
    read: ({ entered }) => entered,
  },
  {
    type: "total",
    name: "prompt_blocks_total",
    help: "Blocks of the prompts of these sequences.",
    read: ({ promptBlocks }) => promptBlocks,
  },
  {
    type: "total",
    name: "kept_blocks_total",
    help: "Blocks of these prompts that stayed in the KV cache.",
    read: ({ keptBlocks }) => keptBlocks,
  },
  {
    type: "gauge",
    name: "saved_bytes",
    help: "Bytes of each worker's KV cache that sequences do without now.",
    read: ({ savedBytes }) => savedBytes,
  },
  {
    type: "gauge",
    name: "peak_saved_bytes",
    help: "The most bytes of each worker's KV cache that sequences ever did without.",
    read: ({ peakSavedBytes }) => peakSavedBytes,
  },
  {
    type: "gauge",
    name: "representation_bytes",
    help: "Bytes of block representations outside the KV cache of a worker.",
    read: ({ counts }) => counts?.representationBytes,
  },
  {
    type: "gauge",
    name: "dense_layer_bytes",
    help: "Bytes of keys and values of dense layers outside the KV cache of a worker.",
    read: ({ counts }) => counts?.denseLayerBytes,
  },
  {
    type: "total",
    name: "selections_total",
    help: "Selections of blocks that came into use.",
    read: ({ counts }) => counts?.selections,
  },
  {
    type: "total",
    name: "early_selections_total",
    help: "Selections that were made early as the queries had moved.",
    read: ({ counts }) => counts?.earlySelections,
  },
  {
    type: "total",
    name: "retrieval_seconds_total",
    help: "Time of scoring and choosing blocks.",
    read: ({ counts }) => seconds(counts?.selectMicros),
  },
  {
    type: "total",
    name: "load_seconds_total",
    help: "Time until chosen blocks were read from the store, beside the steps.",
    read: ({ counts }) => seconds(counts?.loadMicros),
  },
  {
    type: "total",
    name: "switch_seconds_total",
    help: "Time of putting chosen blocks into their places, between steps.",
    read: ({ counts }) => seconds(counts?.switchMicros),
  },
  {
    type: "total",
    name: "wait_seconds_total",
    help: "Time that steps waited for late selections.",
    read: ({ counts }) => seconds(counts?.waitMicros),
  },
  {
    type: "total",
    name: "late_steps_total",
    help: "Steps that waited for a late selection.",
    read: ({ counts }) => counts?.lateSteps,
  },
  {
    type: "total",
    name: "loaded_pieces_total",
    help: "Layers of blocks that were read from the store.",
    read: ({ counts }) => counts?.loadedPieces,
  },
  {
    type: "total",
    name: "kept_pieces_total",
    help: "Layers of blocks that were chosen again and in place.",
    read: ({ counts }) => counts?.keptPieces,
  },
];

/** Series of sparse attention; without it there are none. UCM has no names for these. */
export function createSparseMetrics(
  series: SeriesMaker,
  snapshot: () => EngineSnapshot | null,
): Pick<EngineObserver, "recalled"> {
  const scrape = (labels: (now: SparseSnapshot) => [Labels, number][]) => () => {
    const now = snapshot()?.sparse ?? null;
    return now === null ? [] : labels(now);
  };
  for (const { type, name, help, read } of sparseSeries) {
    const values = scrape((now) => {
      const value = read(now);
      return value === undefined ? [] : [[{ method: now.method }, value]];
    });
    series.scraped(type, `ucm:sparse_${name}`, help, ["method"], values);
  }
  series.scraped(
    "total",
    "ucm:sparse_fallbacks_total",
    "Sequences that went on with dense attention, by why.",
    ["method", "reason"],
    scrape(({ method, refused, lost }) => [
      [{ method, reason: "store_full" }, refused],
      [{ method, reason: "block_lost" }, lost],
    ]),
  );
  const recall = series.histogram(
    "ucm:sparse_recall",
    "Share of the true attention that the kept blocks had, on sampled steps.",
    recallBuckets,
  );
  return { recalled: recall };
}
