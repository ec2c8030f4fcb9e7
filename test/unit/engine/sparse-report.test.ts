import { describe, expect, it } from "vitest";
import { sparseRows } from "../../../src/cli/sparse-summary.js";
import { SparseTotals } from "../../../src/engine/sparse-report.js";
import type { SparseCounts, SparseNews } from "../../../src/messages/index.js";
import { captureLog } from "../../helpers/captured-log.js";

const logged = captureLog();

const cost = { steps: 10, micros: 30_000, contextTokens: 10_000 };
const counts: SparseCounts = {
  ...{ selections: 4, earlySelections: 0, selectMicros: 1_000, loadMicros: 2_000 },
  ...{ loadedPieces: 8, keptPieces: 16, lateSteps: 0, waitMicros: 0, switchMicros: 500 },
  ...{ representationBytes: 0, denseLayerBytes: 0 },
  ...{ dense: cost, sparse: { ...cost, micros: 10_000 } },
};
const news: SparseNews = {
  ...{ ready: [], refused: [], lost: [], recalls: new Float32Array(0) },
  counts,
};
const stats = {
  ...{ running: 1, droppedBlocks: 3, peakDroppedBlocks: 6, entered: 2 },
  ...{ promptBlocks: 40, keptBlocks: 10, refused: 0, lost: 0 },
};
const MIB = 2 ** 20;
const cache = { kvBytes: 8 * MIB, numBlocks: 8 } as ConstructorParameters<typeof SparseTotals>[1];

function collect(...told: Partial<SparseNews>[]) {
  const observed: number[] = [];
  const observer = { recalled: (share: number) => void observed.push(share) };
  const totals = new SparseTotals("ESA", cache, observer);
  for (const one of told) totals.receive({ ...news, ...one }, (seqId) => `request ${seqId}`);
  return { totals, observed };
}

const rowsOf = (totals: SparseTotals, changes: Partial<typeof stats> = {}) =>
  Object.fromEntries(sparseRows(totals.report({ ...stats, ...changes })));

describe("what sparse attention came to", () => {
  it("is bytes by blocks, and recall with its worst samples", () => {
    const recalls = Float32Array.from({ length: 100 }, (_, i) => (i < 5 ? 0.25 : 0.75));
    const { totals, observed } = collect({ recalls });
    const report = totals.report(stats);
    expect(report).toMatchObject({ savedBytes: 3 * MIB, peakSavedBytes: 6 * MIB });
    expect(report.recall).toEqual({ samples: 100, mean: 0.725, p5: 0.25 });
    expect(observed).toEqual([...recalls]);
    expect(rowsOf(totals).ESA).toBe(
      "2 sequences, blocks kept 10 of 40 (25 %), 6.0 MiB of KV cache freed",
    );
    expect(rowsOf(totals).Attention).toContain("1.00 ms per decode step, dense-equivalent 3.00 ms");
  });

  it("tells what dense layers took at most beside the cache", () => {
    const held = (denseLayerBytes: number) => ({ counts: { ...counts, denseLayerBytes } });
    const { totals } = collect(held(MIB), held(2 * MIB), held(0));
    expect(totals.report(stats).peakDenseLayerBytes).toBe(2 * MIB);
    expect(rowsOf(totals, { lost: 1, refused: 2 }).ESA).toBe(
      "2 sequences, blocks kept 10 of 40 (25 %), 6.0 MiB of KV cache freed, 2.0 MiB of dense layers beside it; 2 stayed dense: the store had no room; 1 went on dense: the store lost blocks",
    );
  });

  it("forgets what workers held that are lost, and counts on", () => {
    const { totals } = collect({ counts: { ...counts, representationBytes: 9 } });
    totals.endWorkers();
    expect(totals.report(stats).counts).toMatchObject({ selections: 4, representationBytes: 0 });
    totals.receive({ ...news, counts: { ...counts, representationBytes: 5 } }, () => undefined);
    expect(totals.report(stats).counts).toMatchObject({ selections: 8, representationBytes: 5 });
  });

  it("says that nothing was sparse, and for whom attention became dense", () => {
    const { totals } = collect({ refused: [3], lost: [4] });
    expect(rowsOf(totals, { entered: 0 })).toEqual({
      ESA: "attention was dense, as no request had a prompt and an answer long enough for it",
    });
    expect(rowsOf(totals, { entered: 0, refused: 1 }).ESA).toBe(
      "attention was dense; 1 stayed dense: the store had no room",
    );
    expect(logged()).toContain("Request request 3: the KV cache store has no room");
    expect(logged()).toContain("Request request 4: blocks that left the KV cache");
  });
});
