import type { CommandName } from "./spec.js";

/** What is said of a command in help and in usage errors. */
export interface CommandInfo {
  summary: string;
  /** The one positional argument, which sets the flag `model`; null where there is none. */
  positional: { metavar: string; help: string } | null;
}

const model = {
  metavar: "model",
  help: "Folder of a Hugging Face checkpoint, or its name on the hub.",
};

/** Every command in the order of `ucm --help`. */
export const commandInfos: Record<CommandName, CommandInfo> = {
  serve: {
    summary: "Serve a model over HTTP with the OpenAI API.",
    positional: { ...model, metavar: "model_tag" },
  },
  offline: {
    summary: "Run prompts through a model and print or save the answers.",
    positional: { ...model, help: `${model.help} Default: the bundled ucm-demo.` },
  },
  chat: { summary: "Talk to a model on a running server.", positional: null },
  complete: { summary: "Let a model on a running server continue a prompt.", positional: null },
  "bench serve": { summary: "Measure a running server under load.", positional: null },
  "bench latency": { summary: "Measure the time of one batch.", positional: model },
  "bench throughput": { summary: "Measure tokens per second of many prompts.", positional: model },
  "run-batch": { summary: "Answer an OpenAI batch file.", positional: model },
  config: {
    summary: "Print the configuration of `ucm serve` and where each value came from.",
    positional: { ...model, metavar: "model_tag" },
  },
  "collect-env": {
    summary: "Print what an error report should tell of this machine.",
    positional: null,
  },
};

/** `usage: …`, printed by help and before usage errors. */
export function usageLine(command: CommandName): string {
  const { positional } = commandInfos[command];
  const operand = positional === null ? "" : `[${positional.metavar}] `;
  return `usage: ucm ${command} ${operand}[options]`;
}
