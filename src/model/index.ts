export {
  type AttentionStep,
  type DenseModel,
  loadDenseModel,
} from "./dense-model.js";
export { loadModelConfig } from "./hf-config.js";
export type { ModelConfig, RopeScaling } from "./model-config.js";
export { ropeSpec } from "./rope.js";
export {
  requireShardable,
  type Shard,
  shardConfig,
  vocabShare,
} from "./shard.js";
export { embeddingSpec, layerSpec, type TensorSpec } from "./tensor-names.js";
export { estimateWeightBytes } from "./weight-size.js";
export { openCheckpoint, openDummyWeights, type WeightSource } from "./weight-source.js";
export { weightsDigest } from "./weights-digest.js";
