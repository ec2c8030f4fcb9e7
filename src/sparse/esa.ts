import type { SparseConfig } from "../messages/index.js";
import { choiceKey, defineMethod, integerKey, type SparseKeys, shareKey } from "./method.js";

/** Tokens that one representation may stand for, the most first. */
const representationTokens = [128, 32, 16] as const;

/** More decode steps than any sequence has. */
const MOST_STEPS = 1_000_000_000;

/** Keys of `ucm_sparse_config.ESA`: UCM's five, then our own. README.md says why the defaults are these. */
interface EsaSettings {
  init_window_sz: number;
  local_window_sz: number;
  min_blocks: number;
  sparse_ratio: number;
  retrieval_stride: number;
  score: SparseConfig["score"];
  /** 0 is the most that the block size allows. */
  representation_tokens: (typeof representationTokens)[number] | 0;
  group_reduce: SparseConfig["groupReduce"];
  dense_layers: number;
  next_share: number;
  drift_cosine: number;
  recall_every: number;
  wait_ms: number;
}

const keys: SparseKeys<EsaSettings> = {
  init_window_sz: integerKey(1, 0),
  local_window_sz: integerKey(2, 1),
  min_blocks: integerKey(4, 1),
  sparse_ratio: shareKey(0.3, "above 0"),
  retrieval_stride: integerKey(5, 1, MOST_STEPS),
  score: choiceKey("minmax", ["mean", "minmax", "cuboid", "random", "oracle"]),
  representation_tokens: choiceKey(0, [0, 16, 32, 128]),
  group_reduce: choiceKey("max", ["max", "mean"]),
  dense_layers: integerKey(0, 0),
  next_share: shareKey(0.7, 0),
  drift_cosine: shareKey(0, 0),
  recall_every: integerKey(64, 0, MOST_STEPS),
  wait_ms: integerKey(1000, 0, 600_000),
};

/**
 * ESA, essential sparse attention (UCM): of a prompt stay its first blocks, its last ones, and a share
 * of those between, chosen anew every few decode steps by the queries; generated blocks all stay.
 */
export const esa = defineMethod<EsaSettings>({
  keys,

  configure(settings, { blockSize, numLayers }) {
    const { init_window_sz: init, local_window_sz: local, min_blocks: minBlocks } = settings;
    if (minBlocks < init + local) {
      return `min_blocks must be at least init_window_sz + local_window_sz = ${init + local}, got ${minBlocks}.`;
    }
    if (settings.dense_layers > numLayers) {
      return `dense_layers must be an integer from 0 to ${numLayers}, the layers of the model, got ${settings.dense_layers} (default 0).`;
    }
    const tokens =
      settings.representation_tokens || representationTokens.find((most) => most <= blockSize);
    if (tokens === undefined || blockSize % tokens !== 0) {
      return tokens === undefined
        ? `ESA needs blocks of 16 tokens or more; --block-size is ${blockSize}.`
        : `representation_tokens must divide --block-size ${blockSize}, got ${tokens}.`;
    }
    return {
      method: "ESA",
      window: { init, local, minBlocks, ratio: settings.sparse_ratio },
      score: settings.score,
      representationTokens: tokens,
      groupReduce: settings.group_reduce,
      denseLayers: settings.dense_layers,
      stride: settings.retrieval_stride,
      nextShare: settings.next_share,
      driftCosine: settings.drift_cosine,
      recallEvery: settings.recall_every,
      waitMs: settings.wait_ms,
    };
  },

  /** UCM's formula; its number of slots is (init + topK) blocks, the local ones and the output. */
  budget({ window: { init, local, minBlocks, ratio } }, promptTokens, blockSize) {
    if (promptTokens < blockSize * minBlocks) return null;
    const candidates = Math.ceil(promptTokens / blockSize) - init - local;
    const topK = Math.floor(candidates * ratio);
    return topK < candidates ? { init, candidates, topK } : null;
  },
});
