import { z } from "zod";

/** Some JSON writers quote numbers and spell booleans 0 and 1; both are taken, as UCM does. */
const number = z.coerce.number();
const count = number.int().nonnegative();
const flag = z
  .union([z.boolean(), z.enum(["true", "false"]), z.literal(0), z.literal(1)])
  .transform((value) => value === true || value === "true" || value === 1);

const GIB = 2 ** 30;

/** What a key of a store's configuration sets. */
export interface StoreSettings {
  storageBackends: string;
  pipeline: string;
  kvBlockBytes: number;
  memoryBytes: number;
  threads: number;
  ioBytes: number;
  directIo: boolean;
  capacityBytes: number;
  recycle: boolean;
  recycleRatio: number;
  timeoutMs: number;
}

interface Key<Name extends keyof StoreSettings = keyof StoreSettings> {
  setting: Name;
  /** The name, then those that other versions of UCM have for it. */
  names: readonly string[];
  schema: z.ZodType<StoreSettings[Name]>;
}

const key = <Name extends keyof StoreSettings>(
  setting: Name,
  names: readonly string[],
  schema: z.ZodType<StoreSettings[Name]>,
): Key => ({ setting, names, schema }) as Key;

const gib = number.nonnegative().transform((value) => Math.round(value * GIB));

/** Keys that both generations of UCM have for their stores, and that mean something here. */
export const memoryKeys: readonly Key[] = [
  key("memoryBytes", ["max_cache_size"], count.positive()),
  key("memoryBytes", ["cache_buffer_capacity_gb"], gib),
];

export const fileKeys: readonly Key[] = [
  key("storageBackends", ["storage_backends"], z.string().min(1)),
  key(
    "threads",
    ["transferStreamNumber", "stream_number", "posix_data_trans_concurrency"],
    count.min(1).max(256),
  ),
  key("ioBytes", ["transferIoSize", "io_size"], count.min(4096).max(GIB)),
  key("directIo", ["transferIoDirect", "use_direct", "io_direct"], flag),
  key("capacityBytes", ["storageCapacity", "storage_capacity"], count),
  key("capacityBytes", ["posix_capacity_gb"], gib),
  key("recycle", ["recycleEnable", "recycle_enable", "posix_gc_enable"], flag),
  key(
    "recycleRatio",
    ["recycleThresholdRatio", "recycle_threshold_ratio", "posix_gc_trigger_threshold_ratio"],
    number.gt(0).max(1),
  ),
  key("timeoutMs", ["transferTimeoutMs", "timeout_ms"], count.min(1).max(3_600_000)),
];

export const pipelineKeys: readonly Key[] = [
  key("pipeline", ["store_pipeline"], z.string().min(1)),
];

/** In every store. */
export const commonKeys: readonly Key[] = [
  key("kvBlockBytes", ["kv_block_size"], count.positive()),
];

/** Keys of UCM that decide nothing here: how its threads, devices and folders are organised. */
export const ignoredKeys: readonly string[] = [
  "role",
  "device",
  "device_id",
  "unique_id",
  "local_rank_size",
  "tensor_size",
  "tensor_size_list",
  "shard_size",
  "block_size",
  "cpu_affinity_cores",
  "transferBufferNumber",
  "buffer_number",
  "buffer_size",
  "tempDumpDirEnable",
  "hotnessEnable",
  "hotnessInterval",
  "use_scatter_gather",
  "use_scatter_gatter",
  "shard_data_dir",
  "data_dir_shard_bytes",
  "posix_io_engine",
  "posix_lookup_concurrency",
  "posix_open_concurrency",
  "posix_commit_concurrency",
  "posix_gc_recycle_percent",
  "posix_gc_concurrency",
  "posix_gc_check_interval_sec",
  "posix_gc_max_recycle_count_per_shard",
  "posix_gc_shard_sample_ratio",
  "share_buffer_enable",
  "waiting_queue_depth",
  "running_queue_depth",
  "cache_stream_number",
  "store_backend",
];
