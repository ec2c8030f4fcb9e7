import { type FlagTable, flagsOf, idleFlags } from "./spec.js";

const config = flagsOf("options", { commands: ["config"] });

/** Flags of `ucm config` beside those of `ucm serve`. */
export const configFlags = {
  all: config.toggle(false, "Print flags at their defaults as well."),
  json: config.toggle(false, "Print JSON: value and source of every flag."),
  schema: config.toggle(false, "Print the JSON schema of configuration files."),
} as const;

const batch = flagsOf("options", { commands: ["run-batch"] });

/** Flags of `ucm run-batch` beside those of `ucm serve`. */
export const runBatchFlags = {
  "input-file": batch.string(null, "OpenAI batch file (.jsonl) to answer, or its http(s) URL.", {
    short: ["-i"],
  }),
  "output-file": batch.string(
    null,
    "File for a record per request, in order, or an http(s) URL to PUT it to.",
    { short: ["-o"] },
  ),
  "output-tmp-dir": batch.string(
    null,
    "Folder in which records for a URL are collected. Default: the system's.",
  ),
} as const satisfies FlagTable;

/** Flags of vLLM's run-batch that change nothing here. */
export const runBatchIdleFlags: FlagTable = {
  ...idleFlags("options", "accepted", "a batch listens on no port", {
    "enable-metrics": ["switch", false],
    url: "string",
  }),
};
