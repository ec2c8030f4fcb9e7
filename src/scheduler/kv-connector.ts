import type { StoreNews, StoreWork } from "../messages/index.js";

/** Blocks to store, keys[i] in block blockIds[i], of one sequence. */
export interface FilledBlocks {
  seqId: number;
  keys: readonly string[];
  blockIds: readonly number[];
  isFilled: boolean;
}

/** What the scheduler needs of the KV cache store. Answers come with the results of steps. */
export interface KvConnector {
  /** Whether blocks are loaded at all. */
  readonly canLoad: boolean;
  /** A sequence ends when its load fails, in place of computing what is missing. */
  readonly failsWithLoad: boolean;
  /** Whether look-ups or loads have not been answered. */
  readonly isBusy: boolean;
  /** Whether pins are to be let go, or blocks of an earlier step to be stored, with the next one. */
  readonly owesStep: boolean;
  /** Asks with the next step where blocks are; returns the id of the answer. */
  lookup(keys: readonly string[]): number;
  /** Loads with the next step; until the answer the blocks may change at any time. */
  load(keys: readonly string[], blockIds: readonly number[]): number;
  /** Stores blocks that the next step fills, or, with isFilled, that the last one has filled. */
  dump(blocks: FilledBlocks): void;
  /** Removes blocks with the next step. */
  forget(keys: readonly string[]): void;
  /** Keeps blocks in the store, as far as they are there, until unpin(); returns the pin's id. */
  pin(keys: readonly string[]): number;
  unpin(pinId: number): void;
  isWorthLoading(numBlocks: number): boolean;
  takeWork(): StoreWork | null;
  receive(news: StoreNews | null, step: { numTokens: number; durationMs: number }): void;
}

/** The store of a scheduler. */
export interface SchedulerStore {
  connector: KvConnector;
  /** Whether blocks in the arena are shared too (prefix caching), or found in the store alone. */
  sharesArena: boolean;
}

/** A load that did not bring all its blocks. */
export interface LoadFailure {
  seqId: number;
  /** Tokens that were to be loaded and were not. */
  numTokens: number;
  /** The sequence has ended; else it computes them. */
  isFatal: boolean;
}
