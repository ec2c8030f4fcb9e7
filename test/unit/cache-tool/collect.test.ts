import { describe, expect, it } from "vitest";
import type { ScannedBlock } from "../../../src/cache-tool/blocks.js";
import { chooseBlocks } from "../../../src/cache-tool/collect.js";

const now = 1_000_000;
const block = (name: string, usedAtMs: number, isPinned = false): ScannedBlock => ({
  key: name,
  namespace: "n",
  path: name,
  bytes: 100,
  writtenAtMs: 0,
  usedAtMs,
  usedAtNs: BigInt(usedAtMs) * 1_000_000n,
  isPinned,
});
const chosen = (blocks: ScannedBlock[], maxBytes: number | null, maxAgeMs: number | null) => {
  const { excess, kept } = chooseBlocks(blocks, { maxBytes, maxAgeMs }, now);
  return [excess.map(({ key }) => key), kept.count];
};

describe("chooseBlocks", () => {
  const blocks = [block("c", 300), block("a", 100), block("b", 200)];

  it("takes the least recently used first, and no more than needed", () => {
    expect(chosen(blocks, 200, null)).toEqual([["a"], 0]);
    expect(chosen(blocks, 199, null)).toEqual([["a", "b"], 0]);
    expect(chosen(blocks, 300, null)).toEqual([[], 0]);
    expect(chosen(blocks, 0, null)).toEqual([["a", "b", "c"], 0]);
  });

  it("takes those that were not used for longer than the age", () => {
    expect(chosen(blocks, null, now - 200)).toEqual([["a"], 0]);
    expect(chosen(blocks, null, now - 201)).toEqual([["a", "b"], 0]);
    expect(chosen(blocks, null, now - 100)).toEqual([[], 0]);
    expect(chosen(blocks, null, 0)).toEqual([["a", "b", "c"], 0]);
  });

  it("takes others in place of pinned ones, and none without a limit", () => {
    const pinned = [block("a", 100, true), ...blocks.filter(({ key }) => key !== "a")];
    expect(chosen(pinned, 200, null)).toEqual([["b"], 1]);
    expect(chosen(pinned, 0, null)).toEqual([["b", "c"], 1]);
    expect(chosen(pinned, null, null)).toEqual([[], 0]);
  });
});
