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
    pool.free(second);
    pool.free(first);
    expect(pool.allocate(6)).toEqual([5, 4, 3, 2, 1, 0]);
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
    expect(pool.allocate(2)).toEqual([2, 0]);
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
