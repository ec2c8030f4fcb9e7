import { createHash } from "node:crypto";
import { encode } from "cborg";

/**
 * What the chain starts from when PYTHONHASHSEED is not set. vLLM draws a random root then; a fixed
 * one lets blocks be found again after a restart.
 */
const DEFAULT_SEED = "ucm-block-hash-1";

/** The root of the chain: SHA-256 of the CBOR text of the seed (vLLM's NONE_HASH), 32 bytes. */
export function hashRoot(seed: string | null): Uint8Array {
  return sha256(encode(seed ?? DEFAULT_SEED));
}

/**
 * vLLM's `sha256_cbor` hash of a full block: SHA-256 of the canonical CBOR of
 * `[parent, token ids, extra]`, 32 bytes. `parent` is the hash of the block before, or the root;
 * `extra` is all else that makes keys and values differ, null for nothing.
 */
export function hashBlock(
  parent: Uint8Array,
  tokenIds: readonly number[],
  extra: readonly string[] | null,
): Uint8Array {
  return sha256(encode([parent, tokenIds, extra]));
}

function sha256(bytes: Uint8Array): Uint8Array {
  return createHash("sha256").update(bytes).digest();
}

/** Makes the hash chains of an engine's sequences. */
export class BlockHasher {
  readonly #blockSize: number;
  readonly #root: Uint8Array;

  /** `seed` is the value of PYTHONHASHSEED, null when it is not set. */
  constructor({ blockSize, seed }: { blockSize: number; seed: string | null }) {
    this.#blockSize = blockSize;
    this.#root = hashRoot(seed);
  }

  /**
   * The chain of a prompt, about 4 µs per block. Prompts share blocks only under the same
   * `cacheSalt`, which enters the first block and so all that follow.
   */
  chain(promptTokenIds: Iterable<number>, cacheSalt: string | null): BlockHashChain {
    const extra = cacheSalt === null ? null : [cacheSalt];
    const chain = new BlockHashChain(this.#blockSize, { parent: this.#root, extra, hashes: [] });
    for (const tokenId of promptTokenIds) chain.push(tokenId);
    return chain;
  }
}

interface ChainState {
  /** Hash of the last full block, or the root. */
  parent: Uint8Array;
  /** Extra keys of the next block: the first has them, the others inherit them by the chain. */
  extra: readonly string[] | null;
  hashes: readonly string[];
  /** Tokens after the last full block. */
  rest?: readonly number[];
}

/** Hashes of the full blocks of one sequence; grows with its tokens. */
export class BlockHashChain {
  readonly #blockSize: number;
  readonly #hashes: string[];
  readonly #rest: number[];
  #parent: Uint8Array;
  #extra: readonly string[] | null;

  constructor(blockSize: number, { parent, extra, hashes, rest = [] }: ChainState) {
    this.#blockSize = blockSize;
    this.#parent = parent;
    this.#extra = extra;
    this.#hashes = [...hashes];
    this.#rest = [...rest];
  }

  /** One per full block, in order: 64 hexadecimal digits. */
  get hashes(): readonly string[] {
    return this.#hashes;
  }

  /** Adds the next token of the sequence. */
  push(tokenId: number): void {
    if (this.#rest.push(tokenId) < this.#blockSize) return;
    this.#parent = hashBlock(this.#parent, this.#rest, this.#extra);
    this.#extra = null;
    this.#rest.length = 0;
    this.#hashes.push(Buffer.from(this.#parent).toString("hex"));
  }

  /** A chain that goes on from here by itself. */
  fork(): BlockHashChain {
    return new BlockHashChain(this.#blockSize, {
      parent: this.#parent,
      extra: this.#extra,
      hashes: this.#hashes,
      rest: this.#rest,
    });
  }
}
