import { UcmError } from "../errors/index.js";
import type {
  SparseBudget,
  SparseEnter,
  SparseNews,
  SparseWatch,
  SparseWork,
} from "../messages/index.js";
import type { BlockManager } from "./block-manager.js";
import type { Sequence } from "./sequence.js";

/** The budget of a prompt of so many tokens; null when it stays dense. */
export type SparseBudgets = (promptTokens: number) => SparseBudget | null;

/** How far a sequence is on its way into sparse attention. */
export type SparseState =
  /** Its prompt is not in the arena, or it was preempted. */
  | { kind: "outside" }
  /** The worker gets it ready; it attends all its blocks, which stay as they are. */
  | { kind: "watched"; budget: SparseBudget; since: number; isReady: boolean }
  /** It holds a part of its prompt's blocks. */
  | { kind: "entered"; budget: SparseBudget }
  /** It is dense to its end. */
  | { kind: "dense" };

export interface SparseStats {
  /** Sequences that are sparse now, and the blocks of their prompts that they do without. */
  running: number;
  droppedBlocks: number;
  /** The most that they ever did without. */
  peakDroppedBlocks: number;
  /** Since the start: times that a sequence became sparse, with its prompt's blocks and those kept. */
  entered: number;
  promptBlocks: number;
  keptBlocks: number;
  /** Sequences that went on dense, as the store did not take all their blocks. */
  refused: number;
  /** Sequences that were computed again and went on dense, as blocks they needed were lost. */
  lost: number;
}

/**
 * Takes sequences into sparse attention and out of it: watch, once the prompt is in the arena; enter,
 * when the worker has its candidates safe in the store; leave, when it is preempted or goes on dense.
 * A sequence that ends needs no leave.
 */
export class SparseSequences {
  readonly #budgets: SparseBudgets;
  readonly #blocks: BlockManager;
  readonly #blockSize: number;
  readonly #members = new Map<number, Sequence>();
  readonly #totals = {
    peakDroppedBlocks: 0,
    entered: 0,
    promptBlocks: 0,
    keptBlocks: 0,
    refused: 0,
    lost: 0,
  };
  #leave: number[] = [];
  readonly #enter = new Map<Sequence, SparseEnter>();
  readonly #watch = new Map<Sequence, SparseWatch>();
  /** A member has ended, and the worker is yet to hear of it. */
  #owesStep = false;

  constructor(options: { budgets: SparseBudgets; blocks: BlockManager; blockSize: number }) {
    this.#budgets = options.budgets;
    this.#blocks = options.blocks;
    this.#blockSize = options.blockSize;
  }

  /** Whether the worker holds something for sequences that have ended, until its next step. */
  get owesStep(): boolean {
    return this.#owesStep;
  }

  /** Enters running sequences that are ready, and has those watched whose prompts are in. */
  advance(running: readonly Sequence[]): void {
    for (const sequence of running) {
      if (sequence.sparse.kind === "watched") this.#tryEnter(sequence, running.length);
      else if (sequence.sparse.kind === "outside") this.#tryWatch(sequence);
    }
  }

  /** What was decided since the last call, for the step that is about to go. */
  takeWork(): SparseWork | null {
    for (const sequence of this.#enter.keys()) this.#countEntered(sequence);
    this.#totals.peakDroppedBlocks = Math.max(
      this.#totals.peakDroppedBlocks,
      this.#running().droppedBlocks,
    );
    const work = {
      leave: Int32Array.from(this.#leave),
      enter: [...this.#enter.values()],
      watch: [...this.#watch.values()],
    };
    this.#leave = [];
    this.#enter.clear();
    this.#watch.clear();
    this.#owesStep = false;
    return work.leave.length + work.enter.length + work.watch.length === 0 ? null : work;
  }

  receive({ ready, refused }: SparseNews): void {
    for (const seqId of ready) {
      const state = this.#members.get(seqId)?.sparse;
      if (state?.kind === "watched") state.isReady = true;
    }
    for (const seqId of refused) {
      const sequence = this.#members.get(seqId);
      if (sequence?.sparse.kind !== "watched") continue;
      this.#totals.refused += 1;
      this.leave(sequence, "dense");
    }
  }

  /** A sequence that lost a block goes on dense, when it has been computed again. */
  lose(sequence: Sequence): void {
    this.#totals.lost += 1;
    this.leave(sequence, "dense");
  }

  /** Takes a sequence out: its blocks are about to go, or it goes on dense with all of them. */
  leave(sequence: Sequence, kind: "outside" | "dense"): void {
    const isNews = this.#watch.delete(sequence);
    this.#enter.delete(sequence);
    if (this.#members.delete(sequence.seqId) && !isNews) this.#leave.push(sequence.seqId);
    if (sequence.sparse.kind !== "dense") sequence.sparse = { kind };
  }

  /** A sequence has ended; the worker hears it as it does of others. */
  end(sequence: Sequence): void {
    if (this.#members.delete(sequence.seqId)) this.#owesStep = true;
  }

  stats(): SparseStats {
    return { ...this.#running(), ...this.#totals };
  }

  #running(): Pick<SparseStats, "running" | "droppedBlocks"> {
    const entered = [...this.#members.values()].filter(({ sparse }) => sparse.kind === "entered");
    const droppedBlocks = entered.reduce((sum, sequence) => sum + numDroppedBlocks(sequence), 0);
    return { running: entered.length, droppedBlocks };
  }

  /** A decode step is next: all that is known but the last token has been computed. */
  #tryWatch(sequence: Sequence): void {
    const { seqId, promptTokenIds, numTokens, numComputedTokens, blockHashes } = sequence;
    if (numComputedTokens < promptTokenIds.length || numComputedTokens !== numTokens - 1) return;
    const budget = blockHashes === null ? null : this.#budgets(promptTokenIds.length);
    if (budget === null) {
      sequence.sparse = { kind: "dense" };
      return;
    }
    const { init, candidates, topK } = budget;
    const keys = blockHashes!.hashes.slice(init, init + candidates);
    if (keys.length !== candidates) {
      throw new UcmError("UCM_ERR_INTERNAL", `Sequence ${seqId} lacks hashes of its prompt.`);
    }
    sequence.sparse = { kind: "watched", budget, since: numComputedTokens, isReady: false };
    this.#members.set(seqId, sequence);
    this.#watch.set(sequence, { seqId, init, topK, keys });
  }

  /** The worker chooses by the queries of a decode step, so there must have been one. */
  #tryEnter(sequence: Sequence, numRunning: number): void {
    const { sparse: state, seqId } = sequence;
    if (state.kind !== "watched" || !state.isReady) return;
    if (sequence.numComputedTokens === state.since) return;
    const slots = this.#blocks.compress(sequence, state.budget, numRunning);
    if (slots === null) return;
    sequence.sparse = { kind: "entered", budget: state.budget };
    this.#enter.set(sequence, { seqId, slots: Int32Array.from(slots) });
  }

  #countEntered(sequence: Sequence): void {
    const promptBlocks = Math.ceil(sequence.promptTokenIds.length / this.#blockSize);
    this.#totals.entered += 1;
    this.#totals.promptBlocks += promptBlocks;
    this.#totals.keptBlocks += promptBlocks - numDroppedBlocks(sequence);
  }
}

/** Blocks that a sequence's table is shorter by than its tokens would have it. */
export function numDroppedBlocks({ sparse }: Pick<Sequence, "sparse">): number {
  return sparse.kind === "entered" ? sparse.budget.candidates - sparse.budget.topK : 0;
}
