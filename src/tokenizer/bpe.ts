/**
 * Byte-pair merging in O(n log n) of the word's length, on integer symbols. The tokenizer library
 * merges too, but on strings: a 100 000 character word without spaces (Chinese, base64, one repeated
 * character) costs it seconds.
 */
export interface BpeMerger {
  /**
   * Splits a word into its characters and applies the merges by rising rank, leftmost first
   * (Sennrich et al. 2016, as in Hugging Face tokenizers). A character outside the vocabulary comes
   * out as itself.
   */
  merge(word: string): string[];
}

/** Words up to this length are remembered; longer ones hardly come twice. */
const CACHED_WORD_LENGTH = 64;
const CACHED_WORDS = 20_000;
/** Longest word whose working arrays are kept for the next one. */
const KEPT_SYMBOLS = 4096;

/**
 * Builds a merger from a vocabulary and its merge list, best first. Throws an Error that names the
 * first merge whose parts or result the vocabulary does not know.
 */
export function createBpeMerger(
  vocab: ReadonlyMap<string, number>,
  merges: readonly (readonly [string, string])[],
): BpeMerger {
  const tokens: string[] = [];
  for (const [token, id] of vocab) tokens[id] = token;
  const table = buildMergeTable(vocab, merges);
  const kept = createScratch(KEPT_SYMBOLS);
  const cache = new Map<string, string[]>();

  function mergeUncached(word: string): string[] {
    const characters = Array.from(word);
    if (characters.length < 2) return characters;
    const scratch = characters.length <= KEPT_SYMBOLS ? kept : createScratch(characters.length);
    characters.forEach((character, i) => {
      scratch.symbols[i] = vocab.get(character) ?? -1;
    });
    mergeSymbols(scratch, characters.length, table);
    const pieces: string[] = [];
    for (let i = 0; i < characters.length; i = scratch.next[i]!) {
      const symbol = scratch.symbols[i]!;
      pieces.push(symbol < 0 ? characters[i]! : tokens[symbol]!);
    }
    return pieces;
  }

  return {
    merge(word) {
      if (word.length > CACHED_WORD_LENGTH) return mergeUncached(word);
      let pieces = cache.get(word);
      if (pieces === undefined) {
        pieces = mergeUncached(word);
        if (cache.size >= CACHED_WORDS) cache.clear();
        cache.set(word, pieces);
      }
      return pieces;
    },
  };
}

/** Working arrays for a word: a linked list of symbols and a heap of candidate merges. */
interface Scratch {
  symbols: Int32Array;
  /** Position of the following symbol; the word's length at the end. */
  next: Int32Array;
  previous: Int32Array;
  heap: MinHeap;
}

function createScratch(length: number): Scratch {
  return {
    symbols: new Int32Array(length),
    next: new Int32Array(length),
    previous: new Int32Array(length),
    // A word starts with fewer than `length` candidates, and each of its merges adds at most two.
    heap: new MinHeap(3 * length),
  };
}

/** Leaves in `next` the list of merged symbols; a merged pair lives at its left position. */
function mergeSymbols(scratch: Scratch, length: number, table: MergeTable): void {
  const { symbols, next, previous, heap } = scratch;
  // A candidate is rank * length + position: the least is the best merge, leftmost of equals.
  const propose = (left: number) => {
    const slot = table.find(symbols[left]!, symbols[next[left]!]!);
    if (slot >= 0) heap.push(table.ranks[slot]! * length + left);
  };
  heap.clear();
  for (let i = 0; i < length; i++) {
    next[i] = i + 1;
    previous[i] = i - 1;
  }
  for (let i = 0; i + 1 < length; i++) propose(i);
  while (heap.size > 0) {
    const candidate = heap.pop();
    const left = candidate % length;
    const right = next[left]!;
    // Since it was proposed, the pair may have been merged away or its right side have grown.
    if (right >= length) continue;
    const slot = table.find(symbols[left]!, symbols[right]!);
    if (slot < 0 || table.ranks[slot]! * length + left !== candidate) continue;
    symbols[left] = table.results[slot]!;
    next[left] = next[right]!;
    if (next[left]! < length) {
      previous[next[left]!] = left;
      propose(left);
    }
    if (previous[left]! >= 0) propose(previous[left]!);
    // The swallowed position must not be taken for the start of a pair again.
    next[right] = length;
  }
}

/** Open-addressed hash table from a pair of symbols to its merge. */
interface MergeTable {
  /** Slot of the pair, -1 when the two do not merge. */
  find(left: number, right: number): number;
  ranks: Int32Array;
  /** Symbol that the pair becomes. */
  results: Int32Array;
}

function buildMergeTable(
  vocab: ReadonlyMap<string, number>,
  merges: readonly (readonly [string, string])[],
): MergeTable {
  const bits = Math.ceil(Math.log2(Math.max(2 * merges.length, 2)));
  const capacity = 2 ** bits;
  const lefts = new Int32Array(capacity).fill(-1);
  const rights = new Int32Array(capacity);
  const ranks = new Int32Array(capacity);
  const results = new Int32Array(capacity);
  const probe = (left: number, right: number): number => {
    let slot = Math.imul(Math.imul(left, 0x9e3779b1) ^ right, 0x85ebca6b) >>> (32 - bits);
    while (lefts[slot] !== -1 && (lefts[slot] !== left || rights[slot] !== right)) {
      slot = (slot + 1) & (capacity - 1);
    }
    return slot;
  };
  merges.forEach(([leftToken, rightToken], rank) => {
    const left = vocab.get(leftToken);
    const right = vocab.get(rightToken);
    const result = vocab.get(leftToken + rightToken);
    if (left === undefined || right === undefined || result === undefined) {
      const missing = left === undefined ? leftToken : right === undefined ? rightToken : null;
      throw new Error(
        `merge ${rank} ("${leftToken}" + "${rightToken}") needs the token "${missing ?? leftToken + rightToken}", which is not in the vocabulary`,
      );
    }
    const slot = probe(left, right);
    lefts[slot] = left;
    rights[slot] = right;
    ranks[slot] = rank;
    results[slot] = result;
  });
  return {
    ranks,
    results,
    find(left, right) {
      if (left < 0 || right < 0) return -1;
      const slot = probe(left, right);
      return lefts[slot] === -1 ? -1 : slot;
    },
  };
}

/** Binary heap of numbers, least first, of fixed capacity. */
class MinHeap {
  readonly #keys: Float64Array;
  size = 0;

  constructor(capacity: number) {
    this.#keys = new Float64Array(capacity);
  }

  clear(): void {
    this.size = 0;
  }

  push(key: number): void {
    const keys = this.#keys;
    let i = this.size++;
    while (i > 0) {
      const parent = (i - 1) >> 1;
      if (keys[parent]! <= key) break;
      keys[i] = keys[parent]!;
      i = parent;
    }
    keys[i] = key;
  }

  pop(): number {
    const keys = this.#keys;
    const least = keys[0]!;
    const last = keys[--this.size]!;
    let i = 0;
    for (;;) {
      let child = 2 * i + 1;
      if (child >= this.size) break;
      if (child + 1 < this.size && keys[child + 1]! < keys[child]!) child++;
      if (keys[child]! >= last) break;
      keys[i] = keys[child]!;
      i = child;
    }
    keys[i] = last;
    return least;
  }
}
