import type { SparseSnapshot } from "../../src/metrics/index.js";

/** Sparse attention of some engine; no two numbers are the same. */
export const testSparseSnapshot: SparseSnapshot = {
  ...{ method: "ESA", running: 2, entered: 7, promptBlocks: 700, keptBlocks: 210 },
  ...{ savedBytes: 3_000, peakSavedBytes: 9_000, refused: 4, lost: 5 },
  counts: {
    ...{ selections: 40, earlySelections: 3, lateSteps: 6, loadedPieces: 80, keptPieces: 160 },
    ...{ selectMicros: 1_500_000, loadMicros: 2_500_000, switchMicros: 3_500_000 },
    ...{ waitMicros: 4_500_000, representationBytes: 1_024, denseLayerBytes: 2_048 },
  },
};
