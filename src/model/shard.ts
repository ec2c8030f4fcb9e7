import { UcmError } from "../errors/index.js";
import type { ModelConfig } from "./model-config.js";

/** Which part of a model a worker has: rank 0 … worldSize - 1. */
export interface Shard {
  rank: number;
  worldSize: number;
}

/** All of it. */
export const wholeModel: Shard = { rank: 0, worldSize: 1 };

/** Elements [begin, end) of a dimension. */
export interface Range {
  begin: number;
  end: number;
}

/** What the ranks of a model may be: more would need a rank without a column. */
const MAX_WORLD_SIZE = 64;

/** The rank's share of what divides evenly: heads, and the width of the MLP. */
export function evenShare(count: number, { rank, worldSize }: Shard): Range {
  const share = count / worldSize;
  return { begin: share * rank, end: share * (rank + 1) };
}

/** Of `count` KV heads those that the rank's query heads attend to; ranks share one when they are more. */
export function kvHeadShare(count: number, shard: Shard): Range {
  if (shard.worldSize <= count) return evenShare(count, shard);
  const head = Math.floor((shard.rank * count) / shard.worldSize);
  return { begin: head, end: head + 1 };
}

/** Of the vocabulary ceil(count / worldSize) tokens, the last ranks perhaps fewer. */
export function vocabShare(count: number, { rank, worldSize }: Shard): Range {
  const share = Math.ceil(count / worldSize);
  return { begin: Math.min(count, share * rank), end: Math.min(count, share * (rank + 1)) };
}

/** The sizes of the rank's part, as attention and its KV cache see them; the vocabulary stays whole. */
export function shardConfig(model: ModelConfig, shard: Shard): ModelConfig {
  const length = ({ begin, end }: Range) => end - begin;
  return {
    ...model,
    numQueryHeads: length(evenShare(model.numQueryHeads, shard)),
    numKvHeads: length(kvHeadShare(model.numKvHeads, shard)),
    intermediateSize: length(evenShare(model.intermediateSize, shard)),
  };
}

function isLegal(model: ModelConfig, size: number): boolean {
  const { numQueryHeads, numKvHeads, intermediateSize, vocabSize } = model;
  const divides = numQueryHeads % size === 0 && intermediateSize % size === 0;
  const lastTokens = vocabShare(vocabSize, { rank: size - 1, worldSize: size });
  const hasTokens = lastTokens.end > lastTokens.begin;
  return divides && hasTokens && (numKvHeads % size === 0 || size % numKvHeads === 0);
}

/**
 * Refuses a tensor-parallel size that does not divide the model.
 * @throws UcmError UCM_ERR_CONFIG, naming the sizes that do.
 */
export function requireShardable(model: ModelConfig, worldSize: number): void {
  if (worldSize <= MAX_WORLD_SIZE && isLegal(model, worldSize)) return;
  const sizes = Array.from(
    { length: Math.min(model.numQueryHeads, MAX_WORLD_SIZE) },
    (_, i) => i + 1,
  );
  const legal = sizes.filter((size) => isLegal(model, size));
  throw new UcmError(
    "UCM_ERR_CONFIG",
    `--tensor-parallel-size ${worldSize} does not fit the model: it must divide the ${model.numQueryHeads} attention heads and the MLP width of ${model.intermediateSize}, and divide or be a multiple of the ${model.numKvHeads} KV heads. Legal sizes: ${legal.join(", ")}.`,
    { param: "tensor-parallel-size" },
  );
}
