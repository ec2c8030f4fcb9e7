import { describe, expect, it } from "vitest";
import { carryOn, kindOfCount } from "../../../src/engine/carried-counts.js";
import { StoreReports } from "../../../src/engine/store-reports.js";

describe("carryOn", () => {
  it("adds totals, keeps peaks, and takes the present as it is", () => {
    const before = { entered: 5, peakDroppedBlocks: 9, running: 3, method: "x" };
    const now = { entered: 2, peakDroppedBlocks: 4, running: 1, method: "y" };
    expect(carryOn(before, now, kindOfCount)).toEqual({
      entered: 7,
      peakDroppedBlocks: 9,
      running: 1,
      method: "y",
    });
  });

  it("goes into objects, and takes null and what is missing for nothing", () => {
    const now = { sparse: { steps: 1, costs: { micros: 2 } }, external: null, queries: 4 };
    expect(carryOn(null, now, kindOfCount)).toBe(now);
    const before = { sparse: { steps: 10, costs: { micros: 20 } }, external: null };
    expect(carryOn(before, now, kindOfCount)).toEqual({
      sparse: { steps: 11, costs: { micros: 22 } },
      external: null,
      queries: 4,
    });
    expect(carryOn({ sparse: null, queries: 1 }, now, kindOfCount).queries).toBe(5);
  });
});

describe("reports of stores", () => {
  const report = (lookups: number, usedBytes: number) => ({
    tiers: { files: { lookups, usedBytes } },
    bytesPerBlock: 1,
    transfers: [],
  });

  it("go on where those of lost workers ended; what is held is the present worker's", () => {
    const reports = new StoreReports();
    reports.receive(1, report(3, 300));
    reports.receive(0, report(5, 500));
    reports.endWorkers();
    expect(reports.snapshots).toEqual([
      { rank: 0, tiers: { files: { lookups: 5 } } },
      { rank: 1, tiers: { files: { lookups: 3 } } },
    ]);
    reports.receive(0, report(1, 70));
    expect(reports.snapshots[0]).toEqual({
      rank: 0,
      tiers: { files: { lookups: 6, usedBytes: 70 } },
    });
    // One that ends before it has told anything takes nothing away.
    reports.endWorkers();
    reports.endWorkers();
    reports.receive(0, report(2, 80));
    expect(reports.snapshots[0]?.tiers.files?.lookups).toBe(8);
    expect(reports.snapshots[1]?.tiers.files?.lookups).toBe(3);
  });
});
