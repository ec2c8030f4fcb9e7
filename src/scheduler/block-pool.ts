import { UcmError } from "../errors/index.js";
import { PrefixIndex } from "./prefix-index.js";

/** List end, and "not in the list". */
const NONE = -1;

/**
 * The blocks of the KV arena, who holds them, and what full ones hold. A block with a reference count
 * of zero is in the free list. Blocks whose content nobody can find are handed out first, then the
 * least recently freed (vLLM's LRU order), so that the content of a freed block lives as long as it
 * can.
 */
export class BlockPool {
  readonly numBlocks: number;
  readonly #refCounts: Int32Array;
  readonly #index: PrefixIndex;
  /** Doubly linked free list: a block in the middle can be taken back in constant time. */
  readonly #previous: Int32Array;
  readonly #next: Int32Array;
  #head = NONE;
  #tail = NONE;
  #numFree = 0;

  constructor(numBlocks: number) {
    this.numBlocks = numBlocks;
    this.#refCounts = new Int32Array(numBlocks);
    this.#index = new PrefixIndex(numBlocks);
    this.#previous = new Int32Array(numBlocks).fill(NONE);
    this.#next = new Int32Array(numBlocks).fill(NONE);
    for (let id = 0; id < numBlocks; id++) this.#append(id);
  }

  get numFree(): number {
    return this.#numFree;
  }

  get numUsed(): number {
    return this.numBlocks - this.#numFree;
  }

  /**
   * Takes `count` blocks with one reference each, or none at all: null when too few are free. What
   * they held is found no more.
   */
  allocate(count: number): number[] | null {
    if (count > this.#numFree) return null;
    const blockIds: number[] = [];
    for (let i = 0; i < count; i++) {
      const blockId = this.#head;
      this.#unlink(blockId);
      this.#index.remove(blockId);
      this.#refCounts[blockId] = 1;
      blockIds.push(blockId);
    }
    return blockIds;
  }

  /** Adds a reference to each block; a free one leaves the free list with its content. */
  touch(blockIds: readonly number[]): void {
    for (const blockId of blockIds) {
      if (this.refCount(blockId) === 0) this.#unlink(blockId);
      this.#refCounts[blockId]! += 1;
    }
  }

  /**
   * Drops one reference of each block of a block table. Blocks are freed from the last to the first,
   * so that the end of a sequence is reused before its start, which others are likelier to share.
   */
  free(blockTable: readonly number[]): void {
    for (const blockId of [...blockTable].reverse()) {
      if (this.refCount(blockId) === 0) {
        throw new UcmError("UCM_ERR_INTERNAL", `Block ${blockId} was freed, but nobody holds it.`);
      }
      this.#refCounts[blockId]! -= 1;
      if (this.#refCounts[blockId]! > 0) continue;
      if (this.#index.has(blockId)) this.#append(blockId);
      else this.#prepend(blockId);
    }
  }

  /** Names the content of a held block, which changes no more until the block is handed out anew. */
  setHash(blockId: number, hash: string): void {
    this.#index.add(blockId, hash);
  }

  /** Takes blocks out of the index whatever they hold; their holders keep them. */
  forget(blockIds: readonly number[]): void {
    for (const blockId of blockIds) this.#index.remove(blockId);
  }

  /** Takes every block out of the index. */
  forgetAll(): void {
    for (let id = 0; id < this.numBlocks; id++) this.#index.remove(id);
  }

  /** Takes all blocks that hold what these hashes name out of the index. */
  forgetContent(hashes: readonly string[]): void {
    for (const hash of hashes) this.forget(this.#index.named(hash));
  }

  /** Blocks, held or free, for the longest run of the first `maxBlocks` hashes. */
  findCached(hashes: readonly string[], maxBlocks: number): number[] {
    return this.#index.find(hashes, maxBlocks);
  }

  /** Holders of a block; 0 is free. */
  refCount(blockId: number): number {
    const count = this.#refCounts[blockId];
    if (count === undefined) {
      throw new UcmError(
        "UCM_ERR_INTERNAL",
        `Block ${blockId} is outside the pool of ${this.numBlocks} blocks.`,
      );
    }
    return count;
  }

  #append(blockId: number): void {
    this.#previous[blockId] = this.#tail;
    this.#next[blockId] = NONE;
    if (this.#tail === NONE) this.#head = blockId;
    else this.#next[this.#tail] = blockId;
    this.#tail = blockId;
    this.#numFree += 1;
  }

  #prepend(blockId: number): void {
    this.#previous[blockId] = NONE;
    this.#next[blockId] = this.#head;
    if (this.#head === NONE) this.#tail = blockId;
    else this.#previous[this.#head] = blockId;
    this.#head = blockId;
    this.#numFree += 1;
  }

  #unlink(blockId: number): void {
    const previous = this.#previous[blockId]!;
    const next = this.#next[blockId]!;
    if (previous === NONE) this.#head = next;
    else this.#next[previous] = next;
    if (next === NONE) this.#tail = previous;
    else this.#previous[next] = previous;
    this.#numFree -= 1;
  }
}
