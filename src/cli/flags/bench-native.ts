import { type FlagTable, flagsOf } from "./spec.js";

const attention = flagsOf("options", { commands: ["bench attention"] });
const store = flagsOf("options", { commands: ["bench store"] });

/** Flags of `ucm bench attention`: the shape is Qwen2.5-0.5B's unless another is given. */
export const benchAttentionFlags = {
  phase: attention.choice(["all", "prefill", "decode"], "all", "What to measure."),
  "num-query-heads": attention.int(14, "Query heads.", { min: 1, max: 4096 }),
  "num-kv-heads": attention.int(2, "KV heads; the query heads are a multiple of them.", {
    min: 1,
    max: 4096,
  }),
  "head-size": attention.int(64, "Dimensions of a head, a multiple of 8.", { min: 8, max: 256 }),
  "block-size": attention.int(16, "Tokens per KV cache block.", {
    choices: ["8", "16", "32", "64", "128", "256"],
  }),
  "kv-cache-dtype": attention.choice(
    ["float32", "bfloat16", "float16"],
    "bfloat16",
    "Storage format of keys and values.",
  ),
  "seq-len": attention.intList(
    [4096, 16384],
    "Tokens of the prompts of prefill and of the contexts of decode.",
    { min: 1, max: 1_000_000 },
  ),
  "batch-size": attention.intList([1, 8], "Sequences that decode at once.", { min: 1, max: 4096 }),
  threads: attention.int(null, "Threads. Default: all cores.", { min: 1, max: 1024 }),
  "num-iters": attention.int(7, "Measured runs of each case, of which the median counts.", {
    min: 1,
  }),
  json: attention.toggle(false, "Print the result as JSON."),
} as const satisfies FlagTable;

/** Flags of `ucm bench store`. */
export const benchStoreFlags = {
  path: store.string(null, "Folder on the device to measure. Default: the temporary folder."),
  "num-blocks": store.int(200, "Blocks of 1.5 MiB to dump and load.", { min: 8, max: 100_000 }),
  "num-iters": store.int(9, "Measured runs of each case, of which the median counts.", { min: 1 }),
  json: store.toggle(false, "Print the result as JSON."),
} as const satisfies FlagTable;
