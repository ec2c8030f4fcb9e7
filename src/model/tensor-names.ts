import type { ModelConfig } from "./model-config.js";
import { evenShare, kvHeadShare, type Range, type Shard, vocabShare, wholeModel } from "./shard.js";

/** One tensor that a model must have, or a shard's part of it. */
export interface TensorSpec {
  name: string;
  /** Of the part. */
  shape: readonly number[];
  /** Where a part begins in the whole tensor, and its shape; left out for all of it. */
  whole?: { shape: readonly number[]; row: number; col: number };
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

/** `range` of a matrix's rows, or of a vector. */
function partOfRows(name: string, shape: readonly number[], { begin, end }: Range): TensorSpec {
  if (end - begin === shape[0]) return { name, shape };
  return { name, shape: [end - begin, ...shape.slice(1)], whole: { shape, row: begin, col: 0 } };
}

function partOfColumns(name: string, shape: [number, number], { begin, end }: Range): TensorSpec {
  if (end - begin === shape[1]) return { name, shape };
  return { name, shape: [shape[0], end - begin], whole: { shape, row: 0, col: begin } };
}

/** Outputs that a shard computes of a projection with `rows` of them. */
interface Projection {
  name: string;
  rows: number;
  range: Range;
}

/** A linear layer whose outputs are spread over the shards. */
function columnParallel(
  prefix: string,
  projections: readonly Projection[],
  cols: number,
  bias: boolean,
): LinearSpec {
  const weights = projections.map(({ name, rows, range }) =>
    partOfRows(`${prefix}.${name}.weight`, [rows, cols], range),
  );
  const biases = projections.map(({ name, rows, range }) =>
    partOfRows(`${prefix}.${name}.bias`, [rows], range),
  );
  const rows = weights.reduce((sum, { shape }) => sum + shape[0]!, 0);
  return { weights, biases: bias ? biases : [], rows, cols };
}

/** A linear layer whose inputs are spread: the shards' outputs are summed, rank 0's with the bias. */
function rowParallel(
  name: string,
  shape: [number, number],
  range: Range,
  bias: boolean,
): LinearSpec {
  const weight = partOfColumns(`${name}.weight`, shape, range);
  const biases = bias && range.begin === 0 ? [{ name: `${name}.bias`, shape: [shape[0]] }] : [];
  return { weights: [weight], biases, rows: shape[0], cols: range.end - range.begin };
}

/** From heads to the values that they have. */
function scaled({ begin, end }: Range, factor: number): Range {
  return { begin: begin * factor, end: end * factor };
}

/** The tensors of one decoder layer, under the names that all Llama-family checkpoints use. */
export function layerSpec(model: ModelConfig, layer: number, shard = wholeModel): LayerSpec {
  const prefix = `model.layers.${layer}`;
  const { hiddenSize, intermediateSize, headDim, mlpBias } = model;
  const queryRows = model.numQueryHeads * headDim;
  const kvRows = model.numKvHeads * headDim;
  const queries = scaled(evenShare(model.numQueryHeads, shard), headDim);
  const keys = scaled(kvHeadShare(model.numKvHeads, shard), headDim);
  const inner = evenShare(intermediateSize, shard);
  const norm = (name: string, width: number) => ({
    name: `${prefix}.${name}.weight`,
    shape: [width],
  });
  const widen = (name: string) =>
    columnParallel(
      `${prefix}.mlp`,
      [{ name, rows: intermediateSize, range: inner }],
      hiddenSize,
      mlpBias,
    );
  return {
    inputNorm: norm("input_layernorm", hiddenSize),
    qkv: columnParallel(
      `${prefix}.self_attn`,
      [
        { name: "q_proj", rows: queryRows, range: queries },
        { name: "k_proj", rows: kvRows, range: keys },
        { name: "v_proj", rows: kvRows, range: keys },
      ],
      hiddenSize,
      model.qkvBias,
    ),
    qNorm: model.qkNorm ? norm("self_attn.q_norm", headDim) : null,
    kNorm: model.qkNorm ? norm("self_attn.k_norm", headDim) : null,
    output: rowParallel(
      `${prefix}.self_attn.o_proj`,
      [hiddenSize, queryRows],
      queries,
      model.outputBias,
    ),
    postNorm: norm("post_attention_layernorm", hiddenSize),
    gate: widen("gate_proj"),
    up: widen("up_proj"),
    down: rowParallel(`${prefix}.mlp.down_proj`, [hiddenSize, intermediateSize], inner, mlpBias),
  };
}

export function finalNormSpec(model: ModelConfig): TensorSpec {
  return { name: "model.norm.weight", shape: [model.hiddenSize] };
}

/** The output head: its own matrix, or the embedding when the two are tied. */
export function headSpec(model: ModelConfig, shard = wholeModel): LinearSpec {
  const name = model.tieWordEmbeddings ? EMBEDDING : "lm_head.weight";
  const weight = vocabPart(name, model, shard);
  return { weights: [weight], biases: [], rows: weight.shape[0]!, cols: model.hiddenSize };
}

export function embeddingSpec(model: ModelConfig, shard = wholeModel): TensorSpec {
  return vocabPart(EMBEDDING, model, shard);
}

function vocabPart(name: string, { vocabSize, hiddenSize }: ModelConfig, shard: Shard): TensorSpec {
  return partOfRows(name, [vocabSize, hiddenSize], vocabShare(vocabSize, shard));
}
