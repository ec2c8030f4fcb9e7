import { type FlagTable, flagsOf, idleFlags } from "./spec.js";

const serve = flagsOf("options", { commands: ["bench serve"] });
const sampling = flagsOf("SamplingParams", { commands: ["bench serve"] });
const latency = flagsOf("options", { commands: ["bench latency"] });
const throughput = flagsOf("options", { commands: ["bench throughput"] });

/** Where requests of `ucm bench serve` come from. */
const datasetFlags = {
  "dataset-name": serve.choice(
    ["random", "sharegpt", "prefix_repetition", "mooncake", "custom"],
    "random",
    "Workload to send; mooncake replays a trace with its times, unless a rate is given.",
  ),
  "dataset-path": serve.string(
    null,
    "File of a sharegpt (.json), mooncake (.jsonl) or custom (.jsonl) workload.",
  ),
  "num-prompts": serve.int(1000, "Requests to send.", { min: 1 }),
  seed: serve.int(0, "Seed of workload and arrivals.", { min: 0 }),
  "input-len": serve.int(null, "Prompt tokens, for every workload that has a length.", { min: 1 }),
  "output-len": serve.int(null, "Tokens to generate, for every workload.", { min: 1 }),
  "random-input-len": serve.int(1024, "Prompt tokens of a random request.", { min: 1 }),
  "random-output-len": serve.int(128, "Tokens to generate per random request.", { min: 1 }),
  "random-range-ratio": serve.float(0, "Random lengths vary by this share, both ways.", {
    min: 0,
    max: 0.999,
  }),
  "random-prefix-len": serve.int(0, "Tokens that all random prompts start with.", { min: 0 }),
  "sharegpt-output-len": serve.int(null, "Tokens to generate. Default: as in the file.", {
    min: 1,
  }),
  "prefix-repetition-prefix-len": serve.int(256, "Tokens of each shared prefix.", { min: 1 }),
  "prefix-repetition-suffix-len": serve.int(256, "Tokens of each prompt after it.", { min: 1 }),
  "prefix-repetition-num-prefixes": serve.int(10, "Different prefixes.", { min: 1 }),
  "prefix-repetition-output-len": serve.int(128, "Tokens to generate.", { min: 1 }),
  "mooncake-block-len": serve.int(
    512,
    "Tokens per hash id of the trace; fewer than 512 shorten all prompts in proportion.",
    { min: 1 },
  ),
  "mooncake-time-scale": serve.float(1, "Factor of the trace's times; 0 sends all at once.", {
    min: 0,
  }),
  "custom-output-len": serve.int(256, "Tokens to generate; -1 takes them from the file.", {
    min: -1,
  }),
  "disable-shuffle": serve.toggle(false, "Keep the order of the file."),
} as const;

/** Flags of `ucm bench serve`, under vLLM's names and with its defaults. */
export const benchServeFlags = {
  ...datasetFlags,
  backend: serve.choice(
    ["openai", "vllm", "openai-chat", "vllm-chat"],
    "openai",
    "API to call: completions, or chat completions for -chat.",
  ),
  "base-url": serve.string(null, "URL of the server, in place of host and port."),
  host: serve.string("127.0.0.1", "Host of the server."),
  port: serve.int(8000, "Port of the server.", { min: 1, max: 65535 }),
  endpoint: serve.string(null, "Route. Default: /v1/completions, or /v1/chat/completions."),
  header: serve.stringList(null, "Further headers, KEY=VALUE."),
  model: serve.string(null, "Model to ask for. Default: the first that the server lists."),
  "served-model-name": serve.string(null, "Its name in requests. Default: the model."),
  tokenizer: serve.string(null, "Folder of the tokenizer. Default: that of the model."),
  "max-concurrency": serve.int(null, "Requests in flight at most. Default: no limit.", { min: 1 }),
  "request-rate": serve.rate(
    Number.POSITIVE_INFINITY,
    "Requests per second; inf sends all at once.",
  ),
  burstiness: serve.rate(1, "Shape of the gamma distribution of gaps; 1 is a Poisson process."),
  "ramp-up-strategy": serve.choice(
    ["linear", "exponential"],
    null,
    "Raise the rate over the run in this way.",
  ),
  "ramp-up-start-rps": serve.int(null, "Requests per second at the start.", { min: 1 }),
  "ramp-up-end-rps": serve.int(null, "Requests per second at the end.", { min: 1 }),
  "num-warmups": serve.int(0, "Requests before the measured ones.", { min: 0 }),
  "ready-check-timeout-sec": serve.int(0, "Seconds to wait for the server; 0 does not ask.", {
    min: 0,
  }),
  "percentile-metrics": serve.string(null, "Of ttft, tpot, itl, e2el. Default: ttft,tpot,itl."),
  "metric-percentiles": serve.string("99", "Percentiles to print, separated by commas."),
  goodput: serve.stringList(null, "Limits in ms that good requests keep: ttft:N tpot:N e2el:N."),
  "save-result": serve.toggle(false, "Save the result as JSON."),
  "save-detailed": serve.toggle(false, "Save what each request took as well."),
  "append-result": serve.toggle(false, "Append to the result file."),
  "result-dir": serve.string(null, "Folder of the result file."),
  "result-filename": serve.string(null, "Name of the result file."),
  metadata: serve.stringList(null, "KEY=VALUE to keep in the result."),
  label: serve.string(null, "Name of this run in the result. Default: the backend."),
  "disable-tqdm": serve.toggle(false, "Show no progress."),
  "request-id-prefix": serve.string(
    null,
    "Start of request ids. Default: bench- and 8 hex digits.",
  ),
  insecure: serve.toggle(false, "Take any TLS certificate."),
  "ignore-eos": serve.toggle(false, "Generate on after the end-of-sequence token."),
  logprobs: serve.int(null, "Log-probabilities to ask for.", { min: 0 }),
  "extra-body": serve.json(null, "JSON to merge into every request."),
  "top-p": sampling.float(null, "top_p of every request."),
  "top-k": sampling.int(null, "top_k of every request."),
  "min-p": sampling.float(null, "min_p of every request."),
  temperature: sampling.float(null, "temperature of every request."),
  "frequency-penalty": sampling.float(null, "frequency_penalty of every request."),
  "presence-penalty": sampling.float(null, "presence_penalty of every request."),
  "repetition-penalty": sampling.float(null, "repetition_penalty of every request."),
} as const satisfies FlagTable;

/** Flags of vLLM's bench serve that launch scripts carry and that change nothing here. */
export const benchServeIdleFlags: FlagTable = {
  ...idleFlags("options", "accepted", "there is no profiler", { profile: ["switch", false] }),
  ...idleFlags("options", "accepted", "tokenizers are read from tokenizer.json", {
    "tokenizer-mode": ["string", "auto", "hf", "slow"],
    "trust-remote-code": ["bool", false, true],
  }),
  ...idleFlags("options", "refused", "there is no beam search", {
    "use-beam-search": ["switch", false],
  }),
  ...idleFlags("options", "accepted", "prompts are sent as they are", {
    "skip-chat-template": ["switch", false, true],
    "no-oversample": ["switch", false],
  }),
  ...idleFlags("options", "refused", "requests are streamed, as latencies need it", {
    "no-stream": ["switch", false],
  }),
};

/** Flags of `ucm bench latency` beside the engine's. */
export const benchLatencyFlags = {
  "input-len": latency.int(32, "Prompt tokens.", { min: 1 }),
  "output-len": latency.int(128, "Tokens to generate.", { min: 1 }),
  "batch-size": latency.int(8, "Prompts at a time.", { min: 1 }),
  n: latency.int(1, "Sequences per prompt.", { min: 1 }),
  "num-iters-warmup": latency.int(10, "Runs before the measured ones.", { min: 0 }),
  "num-iters": latency.int(30, "Measured runs.", { min: 1 }),
  "output-json": latency.string(null, "File for the result."),
  "disable-detokenize": latency.toggle(false, "Measure token ids alone."),
} as const satisfies FlagTable;

/** Flags of `ucm bench throughput` beside the engine's. */
export const benchThroughputFlags = {
  "input-len": throughput.int(1024, "Prompt tokens.", { min: 1 }),
  "output-len": throughput.int(128, "Tokens to generate.", { min: 1 }),
  n: throughput.int(1, "Sequences per prompt.", { min: 1 }),
  "num-prompts": throughput.int(1000, "Prompts to run.", { min: 1 }),
  "prefix-len": throughput.int(0, "Further tokens that all prompts start with.", { min: 0 }),
  "output-json": throughput.string(null, "File for the result."),
  "disable-detokenize": throughput.toggle(false, "Measure token ids alone."),
} as const satisfies FlagTable;
