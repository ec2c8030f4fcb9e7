import { flagsOf } from "./spec.js";

const sampling = flagsOf("SamplingParams", { commands: ["offline"] });
const files = flagsOf("options", { commands: ["offline"] });

/** What `ucm offline` reads and writes. */
export const offlineFlags = {
  prompt: files.append(null, "A prompt; may be given several times."),
  "prompt-file": files.string(
    null,
    ".txt: the whole file is one prompt. .jsonl: one prompt per line, with its own sampling fields.",
  ),
  "output-file": files.string(null, "Write one JSON record per prompt, in order, to this file."),
  "max-concurrent-prompts": files.int(256, "Prompts handed to the engine at the same time.", {
    min: 1,
  }),
} as const;

/**
 * Sampling fields as flags; a prompt's own field wins. `null` leaves the field to the model's
 * generation config and then to the API's default.
 */
export const samplingFlags = {
  n: sampling.int(null, "Sequences per prompt."),
  "max-tokens": sampling.humanInt(
    null,
    "Tokens to generate at most. Default: the model's, else 256.",
  ),
  "min-tokens": sampling.int(null, "Tokens to generate at least."),
  temperature: sampling.float(null, "0 is greedy. Default: 1."),
  "top-p": sampling.float(null, "Keep the likeliest tokens that make up this probability."),
  "top-k": sampling.int(null, "Keep this many of the likeliest tokens; 0 keeps all."),
  "min-p": sampling.float(null, "Drop tokens below this share of the likeliest one's probability."),
  "presence-penalty": sampling.float(null, "Penalty on tokens already generated."),
  "frequency-penalty": sampling.float(null, "Penalty per occurrence in the output."),
  "repetition-penalty": sampling.float(null, "Factor on tokens of prompt and output; 1 is off."),
  stop: sampling.stringList(null, "Strings that end the text."),
  "stop-token-ids": sampling.intList(null, "Token ids that end the sequence."),
  "include-stop-str-in-output": sampling.bool(null, "Keep the stop string in the text."),
  "ignore-eos": sampling.bool(null, "Go on after the end-of-sequence token."),
  logprobs: sampling.int(null, "Top log-probabilities per generated token."),
  "prompt-logprobs": sampling.int(null, "Top log-probabilities per prompt token."),
  "logit-bias": sampling.json(null, "JSON object of token id to bias."),
  "allowed-token-ids": sampling.intList(null, "Generate no other tokens."),
  "skip-special-tokens": sampling.bool(null, "Leave special tokens out of the text. Default: yes."),
} as const;
