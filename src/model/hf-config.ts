import { readFileSync } from "node:fs";
import { join } from "node:path";
import { z } from "zod";
import { UcmError } from "../errors/index.js";
import type { FloatDtype } from "../native/index.js";
import type { ModelConfig } from "./model-config.js";
import { architectureOf } from "./registry.js";
import { maxPositionsOf, parseRope } from "./rope.js";

const count = z.int().positive();
const tokenId = z.int().nonnegative();

/** The fields of config.json that decide the arithmetic; others are ignored. */
const hfConfigSchema = z.looseObject({
  architectures: z.array(z.string()).min(1),
  vocab_size: count,
  hidden_size: count,
  intermediate_size: count,
  num_hidden_layers: count,
  num_attention_heads: count,
  num_key_value_heads: count.nullish(),
  head_dim: count.nullish(),
  hidden_act: z.string().default("silu"),
  rms_norm_eps: z.number().positive().default(1e-6),
  max_position_embeddings: count,
  rope_theta: z.number().positive().nullish(),
  rope_scaling: z.record(z.string(), z.unknown()).nullish(),
  rope_parameters: z.record(z.string(), z.unknown()).nullish(),
  tie_word_embeddings: z.boolean().default(false),
  attention_bias: z.boolean().nullish(),
  mlp_bias: z.boolean().nullish(),
  sliding_window: z.int().positive().nullish(),
  use_sliding_window: z.boolean().nullish(),
  quantization_config: z.unknown().optional(),
  torch_dtype: z.string().nullish(),
  dtype: z.string().nullish(),
  bos_token_id: tokenId.nullish(),
  eos_token_id: z.union([tokenId, z.array(tokenId)]).nullish(),
});

export type HfConfig = z.infer<typeof hfConfigSchema>;

/**
 * Reads and checks `folder`/config.json with `overrides` (--hf-overrides) merged over it.
 * UCM_ERR_MODEL_NOT_FOUND without the file, UCM_ERR_MODEL_CONFIG for a bad value,
 * UCM_ERR_MODEL_UNSUPPORTED for what the registry or the engine does not know.
 */
export function loadModelConfig(
  folder: string,
  overrides: Record<string, unknown> = {},
): ModelConfig {
  const path = join(folder, "config.json");
  const parsed = hfConfigSchema.safeParse({ ...readJsonObject(path), ...overrides });
  if (!parsed.success) throw invalidConfig(path, parsed.error);
  return toModelConfig(parsed.data, path);
}

function toModelConfig(hf: HfConfig, path: string): ModelConfig {
  const architecture = architectureOf(hf.architectures, path);
  requireSupported(hf, path);
  const headDim =
    hf.head_dim ?? architecture.defaultHeadDim ?? hf.hidden_size / hf.num_attention_heads;
  const numKvHeads = hf.num_key_value_heads ?? hf.num_attention_heads;
  requireShape(hf, headDim, numKvHeads, path);
  const rope = parseRope(hf, path);
  const eos = hf.eos_token_id ?? [];
  return {
    architecture: architecture.name,
    vocabSize: hf.vocab_size,
    hiddenSize: hf.hidden_size,
    intermediateSize: hf.intermediate_size,
    numLayers: hf.num_hidden_layers,
    numQueryHeads: hf.num_attention_heads,
    numKvHeads,
    headDim,
    rmsNormEps: hf.rms_norm_eps,
    maxPositionEmbeddings: maxPositionsOf(hf, rope.scaling),
    ropeTheta: rope.theta,
    ropeScaling: rope.scaling,
    tieWordEmbeddings: hf.tie_word_embeddings,
    ...architecture.switches(hf),
    dtype: parseDtype(hf.dtype ?? hf.torch_dtype ?? "float32", path),
    bosTokenId: hf.bos_token_id ?? null,
    eosTokenIds: Array.isArray(eos) ? eos : [eos],
  };
}

function requireSupported(hf: HfConfig, path: string): void {
  if (hf.hidden_act !== "silu") {
    throw unsupported(`${path}: hidden_act '${hf.hidden_act}' is not supported; expected 'silu'.`);
  }
  if (hf.quantization_config != null) {
    throw unsupported(
      `${path}: the checkpoint is quantized already (quantization_config); expected F32, F16 or BF16 ` +
        "weights. Use the unquantized checkpoint with --quantization int8 or int4.",
    );
  }
}

function requireShape(hf: HfConfig, headDim: number, numKvHeads: number, path: string): void {
  const bad = (message: string) => new UcmError("UCM_ERR_MODEL_CONFIG", `${path}: ${message}`);
  if (hf.num_attention_heads % numKvHeads !== 0) {
    throw bad(
      `num_attention_heads ${hf.num_attention_heads} is not a multiple of num_key_value_heads ${numKvHeads}.`,
    );
  }
  if (!Number.isInteger(headDim) || headDim % 8 !== 0 || headDim < 8 || headDim > 256) {
    const message = `head dimension ${headDim} is not supported; expected a multiple of 8 from 8 to 256.`;
    if (hf.head_dim == null && !Number.isInteger(headDim)) {
      throw bad(
        `hidden_size ${hf.hidden_size} is not a multiple of num_attention_heads ${hf.num_attention_heads}.`,
      );
    }
    throw unsupported(`${path}: ${message}`);
  }
}

const dtypes: Readonly<Record<string, FloatDtype>> = {
  float32: "float32",
  float: "float32",
  bfloat16: "bfloat16",
  float16: "float16",
  half: "float16",
};

function parseDtype(name: string, path: string): FloatDtype {
  const dtype = dtypes[name.replace(/^torch\./, "")];
  if (dtype === undefined) {
    throw unsupported(
      `${path}: dtype '${name}' is not supported; expected float32, float16 or bfloat16.`,
    );
  }
  return dtype;
}

function readJsonObject(path: string): Record<string, unknown> {
  let text: string;
  try {
    text = readFileSync(path, "utf8");
  } catch (error) {
    throw new UcmError(
      "UCM_ERR_MODEL_NOT_FOUND",
      `Cannot read ${path} (${(error as NodeJS.ErrnoException).code}). Expected a folder with a Hugging Face checkpoint: config.json, *.safetensors, tokenizer.json.`,
      { cause: error },
    );
  }
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value === "object" && value !== null && !Array.isArray(value)) {
      return value as Record<string, unknown>;
    }
    throw new Error("it holds no JSON object");
  } catch (error) {
    const hint = /\b(NaN|-?Infinity)\b/.test(text)
      ? " It contains NaN or Infinity, which JSON does not have."
      : "";
    throw new UcmError(
      "UCM_ERR_MODEL_CONFIG",
      `${path} is not valid JSON: ${(error as Error).message}.${hint}`,
      { cause: error },
    );
  }
}

function invalidConfig(path: string, error: z.ZodError): UcmError {
  const issues = error.issues.map(
    (issue) => `${issue.path.join(".") || "config"}: ${issue.message}`,
  );
  return new UcmError("UCM_ERR_MODEL_CONFIG", `${path} is not usable: ${issues.join("; ")}.`, {
    cause: error,
  });
}

function unsupported(message: string): UcmError {
  return new UcmError("UCM_ERR_MODEL_UNSUPPORTED", message);
}
