import { UcmError } from "../errors/index.js";
import type { SparseConfig, WorkerConfig } from "../messages/index.js";
import type { NativeAddon, SparseSpec } from "../native/index.js";
import type { LoadedModel } from "./load-model.js";
import type { OpenedStore } from "./open-store.js";
import { SparseRunner } from "./sparse-runner.js";
import type { StoreRunner } from "./store-runner.js";

/** The sparse attention of a worker over its arena and store; null when attention is dense. */
export function createSparseRunner(
  { sparse, seed }: WorkerConfig,
  { arena }: LoadedModel,
  native: NativeAddon,
  { blocks, runner }: { blocks: OpenedStore; runner: Pick<StoreRunner, "settleDumps"> },
): SparseRunner | null {
  if (sparse === null) return null;
  if (blocks.native === undefined) {
    throw new UcmError("UCM_ERR_INTERNAL", "Sparse attention was given a plug-in as its store.");
  }
  const attention = native.createSparseAttention(arena, blocks.native, sparseSpec(sparse, seed));
  return new SparseRunner(attention, {
    pin: blocks.pin,
    unpin: blocks.unpin,
    dump: blocks.dump,
    settleDumps: () => runner.settleDumps(),
  });
}

function sparseSpec(config: SparseConfig, seed: number): SparseSpec {
  const { score, groupReduce, denseLayers, stride, nextShare, driftCosine, recallEvery, waitMs } =
    config;
  const isMeasurement = score === "random" || score === "oracle";
  return {
    score: isMeasurement ? score : "representation",
    firstBy: "mass",
    ...{ groupReduce, denseLayers, stride, nextShare, driftCosine, recallEvery, waitMs, seed },
  };
}
