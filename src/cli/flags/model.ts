import { flagsOf } from "./spec.js";

const model = flagsOf("ModelConfig");
const load = flagsOf("LoadConfig");

/** Model, tokenizer and weight flags that take effect. */
export const modelFlags = {
  model: model.string(
    null,
    "Folder of a Hugging Face checkpoint, or a model's name on the hub (Org/Name), which is downloaded; the positional argument is the usual way.",
  ),
  "served-model-name": model.stringList(
    null,
    "Names that requests may use; the first is echoed in responses. Default: the model argument.",
  ),
  tokenizer: model.string(
    null,
    "Folder of the tokenizer, or a name on the hub. Default: the model's.",
  ),
  revision: model.string(null, "Branch, tag or commit of a model on the hub. Default: main."),
  "tokenizer-revision": model.string(
    null,
    "Branch, tag or commit of a tokenizer on the hub. Default: main.",
  ),
  "hf-token": model.string(
    null,
    "Token for the hub. Default, and with no value: HF_TOKEN, or that of the last login.",
    { bare: "True" },
  ),
  "download-dir": load.string(null, "Cache of downloaded models. Default: the hub's own."),
  "skip-tokenizer-init": model.bool(
    false,
    "Load no tokenizer: prompts must be token ids, and output is token ids.",
  ),
  "hf-overrides": model.json({}, "JSON object merged over config.json."),
  dtype: model.choice(
    ["auto", "half", "float16", "bfloat16", "float", "float32"],
    "auto",
    "Storage format of the weights: auto keeps the checkpoint's. Arithmetic is fp32.",
  ),
  quantization: model.choice(
    ["int8", "int4"],
    null,
    "Quantize the dense layers at load: int8 (per-row activations, per-column weights) or int4 (blocks of 32).",
    { short: ["-q"] },
  ),
  "max-model-len": model.humanIntOrAuto(
    null,
    "Tokens of prompt and output together; takes 32k, 32K. auto or -1: the largest that fits memory. Default: the model's.",
    { min: -1 },
  ),
  seed: model.int(0, "Seed of requests that name none.", { min: 0 }),
  "generation-config": model.string(
    "auto",
    "Where sampling defaults come from: auto (the model's generation_config.json), vllm (neutral), or a folder.",
  ),
  "override-generation-config": model.json({}, "JSON merged over the sampling defaults."),
  "max-logprobs": model.int(20, "Cap for logprobs and prompt_logprobs; -1 for none.", { min: -1 }),
  "load-format": load.choice(
    ["auto", "hf", "safetensors", "dummy"],
    "auto",
    "auto reads safetensors; dummy makes random weights from config.json alone.",
  ),
  "ignore-patterns": load.stringList(
    null,
    "Files of a model on the hub to leave out, as patterns with * and ?. Default: none of those that the engine reads.",
  ),
  "use-tqdm-on-load": load.bool(true, "Show the progress of loading the weights."),
} as const;
