import { type FlagTable, idleFlags } from "./spec.js";

/** Flags of vLLM that would change results or safety if they were ignored: refused when set. */
export const refusedFlags: FlagTable = {
  ...idleFlags("ModelConfig", "refused", "only text generation is served", {
    runner: ["string", "auto", "generate"],
    convert: ["string", "auto", "none"],
    task: ["string", "auto", "generate"],
    "pooler-config": "json",
    "override-pooler-config": "json",
  }),
  ...idleFlags("ModelConfig", "refused", "the tokenizer is read from tokenizer.json", {
    "tokenizer-mode": ["string", "auto", "hf", "slow"],
    "io-processor-plugin": "string",
  }),
  ...idleFlags(
    "ModelConfig",
    "refused",
    "config.json of the model folder is what counts; use --hf-overrides",
    {
      "hf-config-path": "string",
      "config-format": ["string", "auto", "hf"],
      "rope-scaling": ["json", {}],
      "rope-theta": "float",
      "disable-sliding-window": ["bool", false],
      "model-class-overrides": "json",
    },
  ),
  ...idleFlags("ModelConfig", "refused", "quantization is int8 or int4 by --quantization", {
    "quantization-config": "json",
    "allow-deprecated-quantization": ["bool", false, true],
    "override-attention-dtype": "string",
  }),
  ...idleFlags("ModelConfig", "refused", "logprobs are those of the raw logits", {
    "logprobs-mode": ["string", "raw_logprobs"],
  }),
  ...idleFlags("ModelConfig", "refused", "Python code cannot be loaded", {
    "logits-processors": "stringList",
    "logits-processor-pattern": "string",
  }),
  ...idleFlags("SchedulerConfig", "refused", "Python code cannot be loaded", {
    "scheduler-cls": [
      "string",
      null,
      "vllm.core.scheduler.Scheduler",
      "vllm.v1.core.sched.scheduler.Scheduler",
    ],
  }),
  ...idleFlags("ParallelConfig", "refused", "Python code cannot be loaded", {
    "worker-extension-cls": ["string", ""],
  }),
  ...idleFlags("Frontend", "refused", "Python code cannot be loaded", { middleware: "append" }),
  ...idleFlags("ModelConfig", "refused", "prompts are text or token ids", {
    "enable-prompt-embeds": ["bool", false],
  }),
  ...idleFlags("ModelConfig", "refused", "mixture-of-experts models are not served", {
    "enable-return-routed-experts": ["bool", false],
  }),
  ...idleFlags("MultiModalConfig", "refused", "only text models are served", {
    "enable-mm-embeds": ["bool", false],
  }),
  ...idleFlags("CacheConfig", "refused", "keys and values have one storage format in all layers", {
    "kv-cache-dtype-skip-layers": "stringList",
  }),
  ...idleFlags("LoRAConfig", "refused", "LoRA adapters cannot be loaded", {
    "enable-lora": ["bool", false],
    "enable-lora-bias": ["bool", false],
    "max-loras": ["int", 1],
    "max-lora-rank": ["int", 16],
    "max-cpu-loras": "int",
    "lora-dtype": ["string", "auto"],
    "lora-extra-vocab-size": ["int", 256],
    "lora-target-modules": "stringList",
    "fully-sharded-loras": ["bool", false],
    "enable-mixed-moe-lora-format": ["bool", false],
    "enable-moe-shared-loras": ["bool", false],
    "enable-tower-connector-lora": ["bool", false],
    "specialize-active-lora": ["bool", false],
    "default-mm-loras": "json",
  }),
  ...idleFlags("Frontend", "refused", "LoRA adapters cannot be loaded", {
    "lora-modules": "stringList",
  }),
  ...idleFlags("VllmConfig", "refused", "the tags of reasoning are those of its parser", {
    "reasoning-config": "json",
  }),
  ...idleFlags(
    "VllmConfig",
    "refused",
    "only models that generate token by token are served",
    { "diffusion-config": "json" },
    { "diffusion-config": { short: ["-dc"] } },
  ),
  ...idleFlags("StructuredOutputsConfig", "refused", "Python code cannot be loaded", {
    "reasoning-parser-plugin": ["string", ""],
  }),
  ...idleFlags("Frontend", "refused", "message content is rendered as strings", {
    "chat-template-content-format": ["string", "auto", "string"],
  }),
  ...idleFlags("Frontend", "refused", "text routes are always served", {
    "tokens-only": ["bool", false],
  }),
  ...idleFlags(
    "ParallelConfig",
    "refused",
    "the server runs on one machine",
    { nnodes: ["int", 1], "node-rank": ["int", 0] },
    { nnodes: { short: ["-n"] }, "node-rank": { short: ["-r"] } },
  ),
  ...idleFlags("options", "refused", "the engine does not run without its HTTP server", {
    headless: ["switch", false],
  }),
  ...idleFlags("VllmConfig", "refused", "encoder caches and weight transfer do not exist here", {
    "ec-transfer-config": "json",
    "weight-transfer-config": "json",
  }),
};
