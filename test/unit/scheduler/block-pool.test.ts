import { describe, expect, it } from "vitest";
import { BlockPool } from "../../../src/scheduler/block-pool.js";

describe("BlockPool", () => {
  it("hands out all blocks once, and none when too few are free", () => {
    const pool = new BlockPool(4);
    expect(pool.allocate(3)).toEqual([0, 1, 2]);
    expect(pool.allocate(2)).toBeNull();
    expect(pool.numFree).toBe(1);
    expect(pool.allocate(0)).toEqual([]);
    expect(pool.allocate(1)).toEqual([3]);
    expect(pool.numUsed).toBe(4);
  });

  it("reuses the least recently freed block first, the end of a table before its start", () => {
    const pool = new BlockPool(6);
    const first = pool.allocate(3)!;
    const second = pool.allocate(2)!;
    for (const blockId of [...first, ...second]) pool.setHash(blockId, `hash ${blockId}`);
    pool.free(second);
    pool.free(first);
    expect(pool.allocate(6)).toEqual([5, 4, 3, 2, 1, 0]);
  });

  it("reuses blocks that hold nothing to be found before all others", () => {
    const pool = new BlockPool(4);
    const table = pool.allocate(4)!;
    pool.setHash(0, "a");
    pool.setHash(2, "b");
    pool.free(table);
    expect(pool.allocate(4)).toEqual([1, 3, 2, 0]);
  });

  it("finds a block by its hash, held or free, until it is handed out anew", () => {
    const pool = new BlockPool(3);
    const [first, second] = pool.allocate(2) as [number, number];
    pool.setHash(first, "a");
    pool.setHash(second, "b");
    expect(pool.findCached(["a", "b", "c"], 3)).toEqual([first, second]);
    expect(pool.findCached(["a", "b"], 1)).toEqual([first]);
    expect(pool.findCached(["c", "b"], 2)).toEqual([]);
    pool.free([first, second]);
    expect(pool.findCached(["a", "b"], 2)).toEqual([first, second]);
    expect(pool.allocate(2)).toEqual([2, second]);
    expect(pool.findCached(["a", "b"], 2)).toEqual([first]);
    pool.touch([first]);
    expect(pool.numFree).toBe(0);
  });

  it("keeps two blocks of the same content, and finds one when the other has gone", () => {
    const pool = new BlockPool(2);
    for (const blockId of pool.allocate(2)!) pool.setHash(blockId, "a");
    expect(pool.findCached(["a"], 1)).toEqual([0]);
    pool.free([0]);
    pool.allocate(1);
    expect(pool.findCached(["a"], 1)).toEqual([1]);
    pool.forget([1]);
    expect(pool.findCached(["a"], 1)).toEqual([]);
    expect(() => pool.setHash(1, "b")).not.toThrow();
    expect(() => pool.setHash(1, "c")).toThrow("Block 1 is in the prefix index already.");
  });

  it("keeps a shared block until its last holder lets go", () => {
    const pool = new BlockPool(2);
    const [blockId] = pool.allocate(1)!;
    pool.touch([blockId!]);
    pool.free([blockId!]);
    expect(pool.refCount(blockId!)).toBe(1);
    expect(pool.numFree).toBe(1);
    pool.free([blockId!]);
    expect(pool.numFree).toBe(2);
  });

  it("takes a free block back from the middle of the free list", () => {
    const pool = new BlockPool(5);
    pool.touch([2]);
    pool.touch([0]);
    pool.touch([4]);
    expect(pool.allocate(2)).toEqual([1, 3]);
    expect(pool.numFree).toBe(0);
    pool.free([0, 2]);
    expect(pool.allocate(2)).toEqual([0, 2]);
  });

  it("refuses to free what nobody holds, and ids outside the pool", () => {
    const pool = new BlockPool(2);
    const blockIds = pool.allocate(1)!;
    pool.free(blockIds);
    expect(() => pool.free(blockIds)).toThrow("Block 0 was freed, but nobody holds it.");
    expect(() => pool.free([7])).toThrow("Block 7 is outside the pool of 2 blocks.");
    expect(() => pool.touch([-1])).toThrow("outside the pool");
  });
});
