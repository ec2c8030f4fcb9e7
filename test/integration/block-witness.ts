import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import type { EngineConfig } from "../../src/config/engine-config.js";
import { Engine, type Executor } from "../../src/engine/index.js";
import { type BlockHashChain, BlockHasher } from "../../src/kvcache/index.js";
import { planWorkers } from "../../src/launcher/index.js";
import type { StepMessage, StepResultMessage, StoreTier } from "../../src/messages/index.js";
import { blockStatus, type KvArena, loadNative } from "../../src/native/index.js";
import type { LoadedModel } from "../../src/worker/load-model.js";
import { openStore } from "../../src/worker/open-store.js";
import { StoreRunner } from "../../src/worker/store-runner.js";
import { loadRunner } from "../helpers/runner.js";

/** Digests of what full blocks hold, by their hashes: written by cold runs, compared by warm ones. */
export class BlockBook {
  readonly #digests = new Map<string, string>();
  /** From then on a block that is not in the book is an error. */
  isClosed = false;
  numCompared = 0;
  bytesPerBlock = 0;

  get size(): number {
    return this.#digests.size;
  }

  check(key: string, bytes: readonly Uint8Array[], where: string): void {
    const hash = createHash("sha256");
    for (const piece of bytes) hash.update(piece);
    const digest = hash.digest("base64");
    this.bytesPerBlock = bytes.reduce((sum, { length }) => sum + length, 0);
    const expected = this.#digests.get(key);
    if (expected === undefined) {
      if (this.isClosed) throw new Error(`${where} has block ${key}, which no cold run has`);
      this.#digests.set(key, digest);
      return;
    }
    this.numCompared += 1;
    if (digest !== expected) throw new Error(`${where}: block ${key} differs from the cold run's`);
  }

  /** Compares a block file byte by byte; false when it is damaged, or not the block of its name. */
  checkFile(path: string, key: string): boolean {
    const report = loadNative().verifyBlockFile(path);
    if (report.status !== blockStatus.ok || report.key !== key) return false;
    const bytes = readFileSync(path);
    this.check(key, [bytes.subarray(bytes.length - report.bytesPerBlock!)], path);
    return true;
  }
}

/** Where the blocks came from that sequences started with, and what loads brought in place of one. */
export interface Origins {
  arena: number;
  memory: number;
  file: number;
  corrupt: number;
  lost: number;
  /** Steps computed behind a load, and those of them that came to nothing. */
  followed: number;
  vain: number;
}

export const noOrigins: Readonly<Origins> = {
  arena: 0,
  memory: 0,
  file: 0,
  corrupt: 0,
  lost: 0,
  followed: 0,
  vain: 0,
};

interface Followed {
  promptLength: number;
  maxTokens: number;
  tokens: number[];
  chain: BlockHashChain;
  blockIds: number[];
}

/**
 * Compares with a book every full block that a worker's sequences hold: those that a sequence starts
 * with, those that it fills, and all of them again when its last token is there.
 */
class BlockWitness {
  readonly origins: Origins = { ...noOrigins };
  readonly #hasher: BlockHasher;
  readonly #blockSize: number;
  readonly #sequences = new Map<number, Followed>();
  readonly #found = new Map<string, StoreTier>();
  readonly #lookups = new Map<number, readonly string[]>();
  readonly #loads = new Map<number, { keys: readonly string[]; blockIds: Int32Array }>();
  /** Blocks that were loaded and that no sequence has started with since. */
  readonly #loaded = new Map<number, StoreTier>();

  readonly #book: BlockBook;
  readonly #arena: KvArena;
  readonly #numLayers: number;

  constructor(
    book: BlockBook,
    { arena, config }: LoadedModel,
    { blockSize, blockHashSeed }: EngineConfig["cache"],
  ) {
    this.#book = book;
    this.#arena = arena;
    this.#numLayers = config.numLayers;
    this.#blockSize = blockSize;
    this.#hasher = new BlockHasher({ blockSize, seed: blockHashSeed });
  }

  begin(step: StepMessage): void {
    for (const seqId of step.finished) this.#sequences.delete(seqId);
    for (const { seqId, promptTokenIds, sampling } of step.newSequences) {
      this.#sequences.set(seqId, {
        promptLength: promptTokenIds.length,
        maxTokens: sampling.maxTokens,
        tokens: [...promptTokenIds],
        chain: this.#hasher.chain(promptTokenIds, null),
        blockIds: [],
      });
    }
    for (const { taskId, keys } of step.store?.lookups ?? []) this.#lookups.set(taskId, keys);
    for (const load of step.store?.loads ?? []) this.#loads.set(load.taskId, load);
  }

  end(step: StepMessage, result: StepResultMessage): void {
    this.#noteNews(result);
    if (this.#isVain(step, result)) return;
    for (const { seqId, numComputedTokens, numTokens, ...table } of step.scheduled) {
      const sequence = this.#sequences.get(seqId)!;
      if (table.resetBlockTable) sequence.blockIds = [];
      sequence.blockIds.push(...table.newBlockIds);
      const first = Math.floor(numComputedTokens / this.#blockSize);
      if (table.resetBlockTable) this.#noteOrigins(sequence.blockIds.slice(0, first));
      const end = Math.floor((numComputedTokens + numTokens) / this.#blockSize);
      const isLast = sequence.tokens.length - sequence.promptLength === sequence.maxTokens - 1;
      this.#compare(sequence, table.resetBlockTable || isLast ? 0 : first, end);
    }
    for (const { seqId, tokenId } of result.sampled) {
      const sequence = this.#sequences.get(seqId)!;
      sequence.tokens.push(tokenId);
      sequence.chain.push(tokenId);
    }
  }

  /** Whether the step computed behind a load that did not bring everything. */
  #isVain({ scheduled }: StepMessage, { store }: StepResultMessage): boolean {
    const taskId = scheduled[0]?.awaitsLoad;
    if (taskId === undefined) return false;
    const load = store?.loaded.find((loaded) => loaded.taskId === taskId);
    const isGood = load?.statuses.every((status) => status === "ok") ?? false;
    this.origins[isGood ? "followed" : "vain"] += 1;
    return !isGood;
  }

  #compare({ chain, blockIds }: Followed, begin: number, end: number): void {
    for (let i = begin; i < end; i++) {
      const layers = Array.from({ length: this.#numLayers }, (_, layer) =>
        this.#arena.readBlock(blockIds[i]!, layer),
      );
      this.#book.check(chain.hashes[i]!, layers, `block ${i} of a sequence`);
    }
  }

  #noteOrigins(blockIds: readonly number[]): void {
    for (const blockId of blockIds) {
      this.origins[this.#loaded.get(blockId) ?? "arena"] += 1;
      this.#loaded.delete(blockId);
    }
  }

  #noteNews({ store }: StepResultMessage): void {
    for (const { taskId, tiers } of store?.found ?? []) {
      for (const [i, key] of this.#lookups.get(taskId)!.entries()) {
        if (tiers[i] != null) this.#found.set(key, tiers[i]);
      }
    }
    for (const { taskId, statuses } of store?.loaded ?? []) {
      const { keys, blockIds } = this.#loads.get(taskId)!;
      for (const [i, key] of keys.entries()) {
        if (statuses[i] === "ok") this.#loaded.set(blockIds[i]!, this.#found.get(key)!);
        else this.origins[statuses[i] === "corrupt" ? "corrupt" : "lost"] += 1;
      }
    }
  }
}

export interface WitnessedServer {
  engine: Engine;
  origins: Origins;
  stop(): Promise<void>;
}

/** An engine over the parts of a worker in this process, every block of which `book` checks. */
export async function startWitnessed(
  config: EngineConfig,
  book: BlockBook,
): Promise<WitnessedServer> {
  const { config: worker } = planWorkers(config, {})[0]!;
  const test = await loadRunner(worker.modelPath, worker);
  const { model, runner } = test;
  const store =
    worker.store === null
      ? null
      : new StoreRunner(await openStore(worker.store, worker, model, loadNative()));
  const witness = new BlockWitness(book, model, config.cache);
  const executor: Executor = {
    async execute(message) {
      const step = structuredClone(message);
      witness.begin(step);
      const result = await (store === null
        ? runner.step(step)
        : store.run(step, (part, beforeLayer) => runner.step(part, null, beforeLayer)));
      test.takeLogits();
      witness.end(step, result);
      store?.dump();
      return structuredClone(result);
    },
  };
  const engine = new Engine({ config, executor, tokenizer: null });
  return {
    engine,
    origins: witness.origins,
    async stop() {
      await engine.stop();
      await store?.close();
      await test.dispose();
    },
  };
}
