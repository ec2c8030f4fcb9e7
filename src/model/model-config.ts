import type { FloatDtype } from "../native/index.js";

export type RopeScaling =
  | { type: "default" }
  | { type: "linear"; factor: number }
  | {
      type: "llama3";
      factor: number;
      lowFreqFactor: number;
      highFreqFactor: number;
      originalMaxPositionEmbeddings: number;
    }
  | {
      type: "yarn";
      factor: number;
      originalMaxPositionEmbeddings: number;
      betaFast: number;
      betaSlow: number;
      /** Null: 0.1 ln(factor) + 1. */
      attentionFactor: number | null;
      truncate: boolean;
    };

/** What config.json says, checked and with every default of its architecture filled in. */
export interface ModelConfig {
  /** Name in the registry, such as Qwen2ForCausalLM. */
  architecture: string;
  vocabSize: number;
  hiddenSize: number;
  intermediateSize: number;
  numLayers: number;
  numQueryHeads: number;
  numKvHeads: number;
  headDim: number;
  rmsNormEps: number;
  maxPositionEmbeddings: number;
  ropeTheta: number;
  ropeScaling: RopeScaling;
  tieWordEmbeddings: boolean;
  qkvBias: boolean;
  outputBias: boolean;
  mlpBias: boolean;
  qkNorm: boolean;
  /** The checkpoint's dtype (torch_dtype), which `auto` means. */
  dtype: FloatDtype;
  bosTokenId: number | null;
  eosTokenIds: number[];
}
