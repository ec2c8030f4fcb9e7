import type { CommandName } from "./spec.js";

/** What is said of a command in help and in usage errors. */
export interface CommandInfo {
  summary: string;
  /** The one positional argument, which sets the flag `model`; null where there is none. */
  positional: { metavar: string; help: string } | null;
  /** Flags that a first look at --help shows, where there are too many to show all. */
  common?: readonly string[];
  /** Command lines to start from. */
  examples?: readonly string[];
}

const model = {
  metavar: "model",
  help: "Folder of a Hugging Face checkpoint, or its name on the hub.",
};

/** Engine flags that most launch lines have. */
const engineCommon = ["max-model-len", "quantization", "kv-cache-memory-bytes"] as const;

/** Every command in the order of `ucm --help`. */
export const commandInfos: Record<CommandName, CommandInfo> = {
  serve: {
    summary: "Serve a model over HTTP with the OpenAI API.",
    positional: { ...model, metavar: "model_tag" },
    common: [
      ...["port", "api-key", "served-model-name", "config"],
      ...[...engineCommon, "max-num-seqs", "tensor-parallel-size", "kv-transfer-config"],
    ],
    examples: [
      "ucm serve Qwen/Qwen2.5-0.5B-Instruct --port 8000",
      "ucm serve ./my-model --quantization int8 --max-model-len 32K",
    ],
  },
  offline: {
    summary: "Run prompts through a model and print or save the answers.",
    positional: { ...model, help: `${model.help} Default: the bundled ucm-demo.` },
    common: [
      ...["prompt", "prompt-file", "output-file", "max-tokens", "temperature"],
      ...[...engineCommon, "kv-transfer-config"],
    ],
    examples: [
      'ucm offline --prompt "Once upon a time" --max-tokens 40',
      "ucm offline ./my-model --prompt-file prompts.jsonl --output-file answers.jsonl",
    ],
  },
  chat: { summary: "Talk to a model on a running server.", positional: null },
  complete: { summary: "Let a model on a running server continue a prompt.", positional: null },
  "bench serve": { summary: "Measure a running server under load.", positional: null },
  "bench latency": {
    summary: "Measure the time of one batch.",
    positional: model,
    common: ["input-len", "output-len", "batch-size", "num-iters", "output-json", ...engineCommon],
  },
  "bench throughput": {
    summary: "Measure tokens per second of many prompts.",
    positional: model,
    common: ["input-len", "output-len", "num-prompts", "n", "output-json", ...engineCommon],
  },
  "bench attention": {
    summary: "Measure the attention kernels beside the machine's roofs.",
    positional: null,
  },
  "bench store": {
    summary: "Measure the KV cache store beside plain copies and files.",
    positional: null,
  },
  "run-batch": {
    summary: "Answer an OpenAI batch file.",
    positional: model,
    common: ["input-file", "output-file", ...engineCommon],
  },
  config: {
    summary: "Print the configuration of `ucm serve` and where each value came from.",
    positional: { ...model, metavar: "model_tag" },
    common: ["all", "json", "schema", "config"],
  },
  "collect-env": {
    summary: "Print what an error report should tell of this machine.",
    positional: null,
  },
};

/** What is said of `ucm cache`, whose operations have options of their own. */
export const cacheSummary = "Look after the folders of KV cache stores: ls, stat, verify, gc, rm.";

/** `usage: …`, printed by help and before usage errors. */
export function usageLine(command: CommandName): string {
  const { positional } = commandInfos[command];
  const operand = positional === null ? "" : `[${positional.metavar}] `;
  return `usage: ucm ${command} ${operand}[options]`;
}
