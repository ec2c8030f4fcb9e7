import * as buckets from "./buckets.js";
import type { EngineObserver, EngineSnapshot, StoreSnapshot } from "./observations.js";
import type { Labels, ScrapedType, SeriesMaker } from "./series.js";

interface StoreSeries {
  type: ScrapedType;
  /** After `ucm:store_`. */
  name: string;
  help: string;
  /** From the native store's unit to the series'. */
  scale?: number;
}

const MICROS = 1e-6;

/** The native store's counts and sizes (native/store/store_stats.h) and their series. */
export const storeSeries: Readonly<Record<string, StoreSeries>> = {
  lookups: { type: "total", name: "lookups_total", help: "Blocks looked up." },
  lookupHits: { type: "total", name: "lookup_hits_total", help: "Blocks looked up and found." },
  loadedBlocks: { type: "total", name: "loaded_blocks_total", help: "Blocks loaded." },
  loadedBytes: { type: "total", name: "loaded_bytes_total", help: "Bytes loaded." },
  loadMisses: {
    type: "total",
    name: "load_misses_total",
    help: "Blocks gone when they were to be loaded.",
  },
  loadFailures: {
    type: "total",
    name: "load_failures_total",
    help: "Blocks whose device reported an error.",
  },
  loadTimeouts: {
    type: "total",
    name: "load_timeouts_total",
    help: "Blocks whose device did not answer in time.",
  },
  loadMicros: {
    type: "total",
    name: "load_seconds_total",
    help: "Thread time of loads.",
    scale: MICROS,
  },
  dumpedBlocks: { type: "total", name: "dumped_blocks_total", help: "Blocks stored." },
  dumpedBytes: { type: "total", name: "dumped_bytes_total", help: "Bytes stored." },
  dumpDuplicates: {
    type: "total",
    name: "dump_duplicates_total",
    help: "Blocks to store that were there.",
  },
  dumpsRefused: {
    type: "total",
    name: "dumps_refused_total",
    help: "Blocks not stored for lack of room.",
  },
  dumpFailures: {
    type: "total",
    name: "dump_failures_total",
    help: "Blocks that the device did not take.",
  },
  dumpsDropped: {
    type: "total",
    name: "dumps_dropped_total",
    help: "Blocks given up in the write queue.",
  },
  dumpMicros: {
    type: "total",
    name: "dump_seconds_total",
    help: "Thread time of dumps.",
    scale: MICROS,
  },
  corruptBlocks: { type: "total", name: "corrupt_blocks_total", help: "Blocks found damaged." },
  quarantinedBlocks: {
    type: "total",
    name: "quarantined_blocks_total",
    help: "Damaged blocks moved away.",
  },
  evictedBlocks: {
    type: "total",
    name: "evicted_blocks_total",
    help: "Blocks removed to make room.",
  },
  evictedBytes: { type: "total", name: "evicted_bytes_total", help: "Bytes removed to make room." },
  reclaimedFiles: {
    type: "total",
    name: "reclaimed_files_total",
    help: "Leftovers of dead servers removed.",
  },
  usedBytes: {
    type: "gauge",
    name: "used_bytes",
    help: "Bytes held, as far as this worker knows.",
  },
  capacityBytes: { type: "gauge", name: "capacity_bytes", help: "Limit; 0 is none." },
  pinnedBlocks: {
    type: "gauge",
    name: "pinned_blocks",
    help: "Blocks kept from removal by this worker.",
  },
  buffersInUse: { type: "gauge", name: "buffers_in_use", help: "Blocks in memory on their way." },
  blocks: { type: "gauge", name: "blocks", help: "Blocks in memory." },
  backendsOut: {
    type: "gauge",
    name: "backends_out",
    help: "Folders that are left alone since they failed.",
  },
  breakerOpenings: {
    type: "total",
    name: "breaker_openings_total",
    help: "Times a folder was left alone.",
  },
  stuckThreads: {
    type: "gauge",
    name: "stuck_threads",
    help: "Threads that wait for a device without answer.",
  },
  threadsGivenUp: {
    type: "total",
    name: "threads_given_up_total",
    help: "Threads left behind by a hung device.",
  },
  queuedWrites: {
    type: "gauge",
    name: "queued_writes",
    help: "Blocks in memory that wait to be written.",
  },
};

type Observer = Pick<EngineObserver, "stepped" | "lookedUp" | "transferred">;

/** Series of the KV cache store: UCM's nine histograms under its names, and the store's own counts. */
export function createStoreMetrics(
  series: SeriesMaker,
  snapshot: () => EngineSnapshot | null,
): Observer {
  for (const [key, { type, name, help, scale = 1 }] of Object.entries(storeSeries)) {
    const read = () => (snapshot()?.stores ?? []).flatMap((store) => valuesOf(store, key, scale));
    series.scraped(type, `ucm:store_${name}`, help, ["worker_id", "tier"], read);
  }
  const save = transferSeries(series, "save", "stored in");
  const load = transferSeries(series, "load", "loaded from");
  const hitRate = series.histogram(
    "ucm:interval_lookup_hit_rates",
    "Share of a prompt's blocks that the store gave.",
    buckets.hitRateBuckets,
  );
  return {
    stepped({ loadRequests, loadBlocks, saveRequests, saveBlocks }) {
      if (loadRequests > 0) load.began(loadRequests, loadBlocks);
      if (saveRequests > 0) save.began(saveRequests, saveBlocks);
    },
    lookedUp: hitRate,
    transferred: ({ kind, bytes, durationMs }) =>
      (kind === "load" ? load : save).ended(bytes, durationMs),
  };
}

function valuesOf({ rank, tiers }: StoreSnapshot, key: string, scale: number): [Labels, number][] {
  return Object.entries(tiers).flatMap(([tier, values]): [Labels, number][] => {
    const value = values[key];
    return value === undefined ? [] : [[{ worker_id: String(rank), tier }, value * scale]];
  });
}

function transferSeries(series: SeriesMaker, what: "load" | "save", verb: string) {
  const requests = series.histogram(
    `ucm:${what}_requests_num`,
    `Requests per step of which blocks are ${verb} the store.`,
    buckets.transferRequestBuckets,
  );
  const blocks = series.histogram(
    `ucm:${what}_blocks_num`,
    `Blocks per step that are ${verb} the store.`,
    buckets.transferBlockBuckets,
  );
  const duration = series.histogram(
    `ucm:${what}_duration`,
    `Milliseconds until the blocks of one request are ${verb} the store.`,
    buckets.transferBlockBuckets,
  );
  const speed = series.histogram(
    `ucm:${what}_speed`,
    `GB/s at which the blocks of one request are ${verb} the store.`,
    buckets.transferSpeedBuckets,
  );
  return {
    began(numRequests: number, numBlocks: number): void {
      requests(numRequests);
      blocks(numBlocks);
    },
    ended(bytes: number, durationMs: number): void {
      duration(durationMs);
      if (durationMs > 0) speed(bytes / durationMs / 1e6);
    },
  };
}
