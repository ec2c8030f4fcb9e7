import { UcmError } from "../errors/index.js";
import type { SparseBudget } from "../messages/index.js";
import { BlockPool } from "./block-pool.js";
import { PrefixCacheStats } from "./prefix-cache-stats.js";
import type { Sequence } from "./sequence.js";
import { numDroppedBlocks } from "./sparse-sequences.js";

/** What the cache has of a sequence that waits. */
export interface CachedPrefix {
  blockIds: readonly number[];
  /** Hash of the first block that it lacks; null when no further one could be used. */
  missing: string | null;
}

/**
 * Gives blocks to sequences and keeps what they computed: full blocks stay findable by their hash
 * until they are reused for something else.
 */
export class BlockManager {
  readonly #blockSize: number;
  readonly #pool: BlockPool;
  readonly #sharesBlocks: boolean;
  readonly stats = new PrefixCacheStats();
  /** Of tokens that the arena lacked, in the store. */
  readonly externalStats = new PrefixCacheStats();

  /** `sharesBlocks` false keeps full blocks to their sequence, whatever hashes there are. */
  constructor(
    { blockSize, numBlocks }: { blockSize: number; numBlocks: number },
    { sharesBlocks }: { sharesBlocks: boolean },
  ) {
    this.#blockSize = blockSize;
    this.#sharesBlocks = sharesBlocks;
    this.#pool = new BlockPool(numBlocks);
  }

  /** What was computed until now is found no more; sequences keep what they hold. */
  forgetPrefixes(): void {
    this.#pool.forgetAll();
  }

  get numUsed(): number {
    return this.#pool.numUsed;
  }

  get numFree(): number {
    return this.#pool.numFree;
  }

  /**
   * Whole blocks of a sequence that need not be computed when they are known. The last token always
   * is computed, as its logits are wanted; with prompt log-probabilities those of all tokens are.
   */
  maxPrefixBlocks({ blockHashes, sampling, numTokens }: Sequence): number {
    if (blockHashes === null || sampling.promptLogprobs !== null) return 0;
    return Math.floor((numTokens - 1) / this.#blockSize);
  }

  /** The longest prefix of a sequence that is in the arena. */
  findPrefix(sequence: Sequence): CachedPrefix {
    const maxBlocks = this.maxPrefixBlocks(sequence);
    if (maxBlocks === 0) return { blockIds: [], missing: null };
    const { hashes } = sequence.blockHashes!;
    const blockIds = this.#pool.findCached(hashes, maxBlocks);
    return { blockIds, missing: blockIds.length < maxBlocks ? hashes[blockIds.length]! : null };
  }

  /**
   * Starts the block table of a waiting sequence with its cached prefix; false (and no change) when
   * the blocks that are left do not hold the rest of it. All that is known of it must fit, not only
   * its first chunk: a sequence admitted by halves would be preempted before its first token, and its
   * work with it (vLLM: scheduler_reserve_full_isl).
   */
  admit(sequence: Sequence, { blockIds }: CachedPrefix): boolean {
    const numFreeHits = blockIds.filter((id) => this.#pool.refCount(id) === 0).length;
    const needed = this.#blocksFor(sequence.numTokens) - blockIds.length;
    if (needed > this.#pool.numFree - numFreeHits) return false;
    this.#pool.touch(blockIds);
    for (const blockId of blockIds) sequence.blockTable.push(blockId);
    sequence.numIndexedBlocks = blockIds.length;
    sequence.numComputedTokens = blockIds.length * this.#blockSize;
    return true;
  }

  /** Extends the block table for `numTokens` more tokens; null (and no change) when blocks lack. */
  extend(sequence: Sequence, numTokens: number): number[] | null {
    const needed = this.#blocksFor(sequence.numComputedTokens + numTokens);
    const held = sequence.blockTable.length + numDroppedBlocks(sequence);
    const blockIds = this.#pool.allocate(needed - held);
    if (blockIds !== null) sequence.blockTable.push(...blockIds);
    return blockIds;
  }

  /** Extends the block table of a sequence for which room was found. */
  reserve(sequence: Sequence, numTokens: number): void {
    if (this.extend(sequence, numTokens) !== null) return;
    throw new UcmError(
      "UCM_ERR_INTERNAL",
      `Sequence ${sequence.seqId} was admitted without the blocks it needs.`,
    );
  }

  /**
   * Puts `topK` blocks in the place of a sequence's candidates and gives the others back; returns the
   * new ones. They are its own: last candidates that nobody shares, which are then found no more, else
   * free blocks. Null (and no change) when that would leave fewer than `reserve` free ones.
   */
  compress(
    { blockTable }: Sequence,
    { init, candidates, topK }: SparseBudget,
    reserve: number,
  ): number[] | null {
    const candidateIds = blockTable.slice(init, init + candidates);
    const unshared = candidateIds.filter((id) => this.#pool.refCount(id) === 1);
    const own = unshared.slice(Math.max(0, unshared.length - topK));
    const numFresh = topK - own.length;
    if (numFresh > 0 && this.#pool.numFree - numFresh < reserve) return null;
    const slots = [...own, ...this.#pool.allocate(numFresh)!];
    this.#pool.forget(own);
    const kept = new Set(own);
    this.#pool.free(candidateIds.filter((id) => !kept.has(id)));
    blockTable.splice(init, candidates, ...slots);
    return slots;
  }

  /**
   * Hashes of the blocks that become full when `numTokens` more tokens are computed; none under sparse
   * attention, where keys and values are approximations.
   */
  filledBy(sequence: Sequence, numTokens: number): readonly string[] {
    const { blockHashes, numComputedTokens } = sequence;
    if (blockHashes === null || numDroppedBlocks(sequence) > 0) return [];
    const first = Math.floor(numComputedTokens / this.#blockSize);
    const end = Math.floor((numComputedTokens + numTokens) / this.#blockSize);
    return first === end ? [] : blockHashes.hashes.slice(first, end);
  }

  /** Makes the full blocks of a sequence findable; only for tokens whose step has returned. */
  index(sequence: Sequence): void {
    const { blockHashes, blockTable, seqId } = sequence;
    if (blockHashes === null || !this.#sharesBlocks || numDroppedBlocks(sequence) > 0) return;
    const numFull = Math.floor(sequence.numComputedTokens / this.#blockSize);
    for (; sequence.numIndexedBlocks < numFull; sequence.numIndexedBlocks++) {
      const hash = blockHashes.hashes[sequence.numIndexedBlocks];
      const blockId = blockTable[sequence.numIndexedBlocks];
      if (hash === undefined || blockId === undefined) {
        throw new UcmError("UCM_ERR_INTERNAL", `Sequence ${seqId} lacks the hash of a full block.`);
      }
      this.#pool.setHash(blockId, hash);
    }
  }

  /**
   * Makes the blocks of a sequence unfindable, those too that it holds no more: what they hold may be
   * what made it fail.
   */
  distrust(sequence: Sequence): void {
    this.#pool.forget(sequence.blockTable);
    if (numDroppedBlocks(sequence) > 0) this.#pool.forgetContent(sequence.blockHashes!.hashes);
  }

  /** Takes all blocks of a sequence. */
  release(sequence: Sequence): void {
    this.#pool.free(sequence.blockTable);
    sequence.blockTable.length = 0;
    sequence.numIndexedBlocks = 0;
    sequence.loadedFrom = [];
  }

  /** Counts what a sequence need not compute when it is scheduled for the first time. */
  recordFirst(sequence: Sequence): void {
    const { blockHashes, sampling, numTokens, numComputedTokens, loadedFrom } = sequence;
    sequence.numCachedTokens = numComputedTokens;
    if (blockHashes === null || sampling.promptLogprobs !== null) return;
    const external = loadedFrom.length * this.#blockSize;
    const hits = numComputedTokens - external;
    if (this.#sharesBlocks) this.stats.record({ queries: numTokens, hits });
    this.externalStats.record({ queries: numTokens - hits, hits: external });
  }

  #blocksFor(numTokens: number): number {
    return Math.ceil(numTokens / this.#blockSize);
  }
}
