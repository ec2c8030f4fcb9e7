import type { ModelConfig } from "./model-config.js";

/** One tensor that a model must have. */
export interface TensorSpec {
  name: string;
  shape: readonly number[];
}

/** A linear layer y = x W^T + b; several tensors stacked along the output rows act as one. */
export interface LinearSpec {
  /** Weights [rows, cols] each, in order. */
  weights: readonly TensorSpec[];
  /** Biases [rows] in the same order; empty for none. */
  biases: readonly TensorSpec[];
  rows: number;
  cols: number;
}

export interface LayerSpec {
  inputNorm: TensorSpec;
  qkv: LinearSpec;
  /** RMS norm weights over a head, [headDim], for architectures with q/k norm. */
  qNorm: TensorSpec | null;
  kNorm: TensorSpec | null;
  output: LinearSpec;
  postNorm: TensorSpec;
  gate: LinearSpec;
  up: LinearSpec;
  down: LinearSpec;
}

const EMBEDDING = "model.embed_tokens.weight";

function linear(
  prefix: string,
  names: readonly [string, number][],
  cols: number,
  bias: boolean,
): LinearSpec {
  return {
    weights: names.map(([name, rows]) => ({
      name: `${prefix}.${name}.weight`,
      shape: [rows, cols],
    })),
    biases: bias
      ? names.map(([name, rows]) => ({ name: `${prefix}.${name}.bias`, shape: [rows] }))
      : [],
    rows: names.reduce((sum, [, rows]) => sum + rows, 0),
    cols,
  };
}

/** The tensors of one decoder layer, under the names that all Llama-family checkpoints use. */
export function layerSpec(model: ModelConfig, layer: number): LayerSpec {
  const prefix = `model.layers.${layer}`;
  const queryRows = model.numQueryHeads * model.headDim;
  const kvRows = model.numKvHeads * model.headDim;
  const { hiddenSize, intermediateSize, mlpBias } = model;
  const norm = (name: string, width: number) => ({
    name: `${prefix}.${name}.weight`,
    shape: [width],
  });
  return {
    inputNorm: norm("input_layernorm", hiddenSize),
    qkv: linear(
      `${prefix}.self_attn`,
      [
        ["q_proj", queryRows],
        ["k_proj", kvRows],
        ["v_proj", kvRows],
      ],
      hiddenSize,
      model.qkvBias,
    ),
    qNorm: model.qkNorm ? norm("self_attn.q_norm", model.headDim) : null,
    kNorm: model.qkNorm ? norm("self_attn.k_norm", model.headDim) : null,
    output: linear(`${prefix}.self_attn`, [["o_proj", hiddenSize]], queryRows, model.outputBias),
    postNorm: norm("post_attention_layernorm", hiddenSize),
    gate: linear(`${prefix}.mlp`, [["gate_proj", intermediateSize]], hiddenSize, mlpBias),
    up: linear(`${prefix}.mlp`, [["up_proj", intermediateSize]], hiddenSize, mlpBias),
    down: linear(`${prefix}.mlp`, [["down_proj", hiddenSize]], intermediateSize, mlpBias),
  };
}

export function finalNormSpec(model: ModelConfig): TensorSpec {
  return { name: "model.norm.weight", shape: [model.hiddenSize] };
}

/** The output head: its own matrix, or the embedding when the two are tied. */
export function headSpec(model: ModelConfig): LinearSpec {
  const name = model.tieWordEmbeddings ? EMBEDDING : "lm_head.weight";
  const shape = [model.vocabSize, model.hiddenSize];
  return { weights: [{ name, shape }], biases: [], rows: model.vocabSize, cols: model.hiddenSize };
}

export function embeddingSpec(model: ModelConfig): TensorSpec {
  return { name: EMBEDDING, shape: [model.vocabSize, model.hiddenSize] };
}
