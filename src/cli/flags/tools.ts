import { flagsOf } from "./spec.js";

const config = flagsOf("options", { commands: ["config"] });

/** Flags of `ucm config` beside those of `ucm serve`. */
export const configFlags = {
  all: config.toggle(false, "Print flags at their defaults as well."),
  json: config.toggle(false, "Print JSON: value and source of every flag."),
  schema: config.toggle(false, "Print the JSON schema of configuration files."),
} as const;
