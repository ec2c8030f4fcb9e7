import { z } from "zod";
import { UcmError } from "../errors/index.js";
import type { RopeSpec } from "../native/index.js";
import type { HfConfig } from "./hf-config.js";
import type { ModelConfig, RopeScaling } from "./model-config.js";

const DEFAULT_THETA = 10000;
const positive = z.number().positive();

/** Keys of `rope_scaling` (transformers 4) and `rope_parameters` (transformers 5). */
const ropeSchema = z.looseObject({
  rope_type: z.string().optional(),
  type: z.string().optional(),
  rope_theta: positive.optional(),
  factor: positive.default(1),
  low_freq_factor: positive.default(1),
  high_freq_factor: positive.default(4),
  original_max_position_embeddings: z.int().positive().nullish(),
  beta_fast: positive.nullish(),
  beta_slow: positive.nullish(),
  attention_factor: positive.nullish(),
  truncate: z.boolean().nullish(),
});

/** Base and scaling of the rotary embedding, from either generation of config.json. */
export function parseRope(hf: HfConfig, path: string): { theta: number; scaling: RopeScaling } {
  const parsed = ropeSchema.safeParse(hf.rope_parameters ?? hf.rope_scaling ?? {});
  if (!parsed.success) {
    const issue = parsed.error.issues[0]!;
    throw new UcmError(
      "UCM_ERR_MODEL_CONFIG",
      `${path}: rope scaling is not usable: ${issue.path.join(".")}: ${issue.message}.`,
    );
  }
  const rope = parsed.data;
  return {
    theta: rope.rope_theta ?? hf.rope_theta ?? DEFAULT_THETA,
    scaling: toScaling(rope, hf, path),
  };
}

function toScaling(rope: z.infer<typeof ropeSchema>, hf: HfConfig, path: string): RopeScaling {
  const type = rope.rope_type ?? rope.type ?? "default";
  const originalMaxPositionEmbeddings =
    rope.original_max_position_embeddings ?? hf.max_position_embeddings;
  const { factor } = rope;
  switch (type) {
    case "default":
      return { type };
    case "linear":
      return { type, factor };
    case "llama3":
      return {
        type,
        factor,
        lowFreqFactor: rope.low_freq_factor,
        highFreqFactor: rope.high_freq_factor,
        originalMaxPositionEmbeddings,
      };
    case "yarn":
      return {
        type,
        factor,
        originalMaxPositionEmbeddings,
        betaFast: rope.beta_fast ?? 32,
        betaSlow: rope.beta_slow ?? 1,
        attentionFactor: rope.attention_factor ?? null,
        truncate: rope.truncate ?? true,
      };
    default:
      throw new UcmError(
        "UCM_ERR_MODEL_UNSUPPORTED",
        `${path}: rope type '${type}' is not supported; expected default, linear, llama3 or yarn.`,
      );
  }
}

/**
 * The context a model is made for. As vLLM derives it: linear and yarn scaling stretch the original
 * length, llama3's max_position_embeddings is stretched already; a sliding window is not attended
 * beyond, so it caps the context instead of changing results.
 */
export function maxPositionsOf(hf: HfConfig, scaling: RopeScaling): number {
  const stretched =
    scaling.type === "linear"
      ? hf.max_position_embeddings * scaling.factor
      : scaling.type === "yarn"
        ? scaling.originalMaxPositionEmbeddings * scaling.factor
        : hf.max_position_embeddings;
  const window = hf.use_sliding_window === false ? null : hf.sliding_window;
  return Math.floor(Math.min(stretched, window ?? Number.POSITIVE_INFINITY));
}

/** Inverse frequencies, float64 [headDim / 2], and the factor on cos and sin. */
export function ropeSpec(model: ModelConfig): RopeSpec {
  const base = Float64Array.from(
    { length: model.headDim / 2 },
    (_, i) => model.ropeTheta ** ((-2 * i) / model.headDim),
  );
  const scaling = model.ropeScaling;
  switch (scaling.type) {
    case "default":
      return { invFreq: base, scale: 1 };
    case "linear":
      return { invFreq: base.map((f) => f / scaling.factor), scale: 1 };
    case "llama3":
      return { invFreq: base.map((f) => llama3Frequency(f, scaling)), scale: 1 };
    case "yarn":
      return yarnSpec(base, model, scaling);
  }
}

/** Llama 3.1: long waves are stretched by `factor`, short ones kept, a linear ramp between. */
function llama3Frequency(freq: number, s: Extract<RopeScaling, { type: "llama3" }>): number {
  const wavelengths = (s.originalMaxPositionEmbeddings * freq) / (2 * Math.PI);
  if (wavelengths < s.lowFreqFactor) return freq / s.factor;
  if (wavelengths > s.highFreqFactor) return freq;
  const smooth = (wavelengths - s.lowFreqFactor) / (s.highFreqFactor - s.lowFreqFactor);
  return ((1 - smooth) * freq) / s.factor + smooth * freq;
}

/** YaRN (Peng et al. 2023, arXiv 2309.00071): NTK-by-parts interpolation and attention temperature. */
function yarnSpec(
  base: Float64Array,
  model: ModelConfig,
  s: Extract<RopeScaling, { type: "yarn" }>,
): RopeSpec {
  const pairAt = (rotations: number) =>
    (model.headDim * Math.log(s.originalMaxPositionEmbeddings / (rotations * 2 * Math.PI))) /
    (2 * Math.log(model.ropeTheta));
  const round = (value: number, how: (x: number) => number) => (s.truncate ? how(value) : value);
  const low = Math.max(round(pairAt(s.betaFast), Math.floor), 0);
  const highest = Math.min(round(pairAt(s.betaSlow), Math.ceil), model.headDim - 1);
  const high = highest === low ? low + 0.001 : highest;
  const invFreq = base.map((freq, i) => {
    const interpolated = Math.min(Math.max((i - low) / (high - low), 0), 1);
    return (freq / s.factor) * interpolated + freq * (1 - interpolated);
  });
  const temperature = s.factor <= 1 ? 1 : 0.1 * Math.log(s.factor) + 1;
  return { invFreq, scale: s.attentionFactor ?? temperature };
}
