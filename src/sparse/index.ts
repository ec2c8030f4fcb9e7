import type { SparseBudget, SparseConfig } from "../messages/index.js";
import { esa } from "./esa.js";
import type { SparseMethod } from "./method.js";

export type { SparseFacts, SparseKey, SparseMethod } from "./method.js";
export { SparseRanks } from "./rank-news.js";

/** The methods by their names in ucm_sparse_method. */
export const sparseMethods: Readonly<Record<string, SparseMethod>> = {
  ESA: esa,
};

/** What is kept of a prompt of so many tokens; null when attention is dense. */
export function sparseBudget(
  config: SparseConfig,
  promptTokens: number,
  blockSize: number,
): SparseBudget | null {
  return sparseMethods[config.method]!.budget(config, promptTokens, blockSize);
}

/** How the arena describes a full block for this score; the measurement scores need the least. */
export function representationKind({ score }: SparseConfig): "mean" | "minmax" | "cuboid" {
  return score === "random" || score === "oracle" ? "mean" : score;
}

/** Vectors in fp32 that a block is ranked by, beside the arena, of one layer and KV head. */
export function rankingVectors(config: SparseConfig, blockSize: number): number {
  if (config.score === "random") return 0;
  return config.score === "oracle" ? blockSize : representationVectors(config, blockSize);
}

/** Vectors of one head's size that a block of one layer and KV head has beside its keys and values. */
export function representationVectors(config: SparseConfig, blockSize: number): number {
  const perSubBlock = representationKind(config) === "mean" ? 1 : 2;
  return (perSubBlock * blockSize) / config.representationTokens;
}
