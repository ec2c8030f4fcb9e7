import { UcmError } from "../errors/index.js";

/**
 * Which blocks hold the keys and values that a block hash names. Several may hold the same: two
 * sequences that computed it side by side keep what they have, as in vLLM.
 */
export class PrefixIndex {
  readonly #blockIds = new Map<string, number[]>();
  /** Hash of each block's content, null when it is not in the index. */
  readonly #hashes: (string | null)[];

  constructor(numBlocks: number) {
    this.#hashes = new Array<string | null>(numBlocks).fill(null);
  }

  has(blockId: number): boolean {
    return this.#hashes[blockId] !== null;
  }

  add(blockId: number, hash: string): void {
    if (this.has(blockId)) {
      throw new UcmError("UCM_ERR_INTERNAL", `Block ${blockId} is in the prefix index already.`);
    }
    this.#hashes[blockId] = hash;
    const same = this.#blockIds.get(hash);
    if (same === undefined) this.#blockIds.set(hash, [blockId]);
    else same.push(blockId);
  }

  /** Forgets a block whose content is about to change or is in doubt. */
  remove(blockId: number): void {
    const hash = this.#hashes[blockId];
    if (hash == null) return;
    this.#hashes[blockId] = null;
    const others = this.#blockIds.get(hash)!.filter((other) => other !== blockId);
    if (others.length === 0) this.#blockIds.delete(hash);
    else this.#blockIds.set(hash, others);
  }

  /** All blocks that hold what a hash names. */
  named(hash: string): readonly number[] {
    return this.#blockIds.get(hash) ?? [];
  }

  /** A block for each of the first hashes, up to the first that no block is known for. */
  find(hashes: readonly string[], maxBlocks: number): number[] {
    const found: number[] = [];
    for (const hash of hashes.slice(0, maxBlocks)) {
      const blockIds = this.#blockIds.get(hash);
      if (blockIds === undefined) break;
      found.push(blockIds[0]!);
    }
    return found;
  }
}
