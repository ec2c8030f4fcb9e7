import { createHash } from "node:crypto";
import { UcmError } from "../errors/index.js";
import type { StoreBlockStatus, StoreModule, StoreTransfer } from "../messages/index.js";
import type { KvArena } from "../native/index.js";
import type { OpenedStore } from "./open-store.js";
import type { PluginClass, PluginContext, PluginStore } from "./plugin-types.js";

const DIGEST_BYTES = 32;
const required = ["has", "get", "put"] as const;

/** What a worker knows that opens a plug-in. */
export interface PluginOptions {
  module: StoreModule;
  context: Omit<PluginContext, "recordBytes" | "settings">;
  arena: KvArena;
  numLayers: number;
  timeoutMs: number;
}

/**
 * Loads a plug-in's module and makes its store one of the worker's.
 * @throws UcmError UCM_ERR_CONFIG when it cannot be loaded or lacks what is needed.
 */
export async function openPlugin(options: PluginOptions): Promise<OpenedStore> {
  const { module, context, arena } = options;
  const recordBytes = arena.bytesPerBlock + DIGEST_BYTES;
  const Plugin = await importClass(module);
  let store: PluginStore;
  try {
    store = new Plugin({ ...context, recordBytes, settings: module.settings });
  } catch (cause) {
    throw broken(module, `new ${module.exportName}() failed: ${reasonOf(cause)}`, cause);
  }
  const missing = required.filter((name) => typeof store[name] !== "function");
  if (missing.length > 0) {
    throw broken(module, `${module.exportName} has no method ${missing.join(", ")}`);
  }
  return new PluginAdapter(store, options);
}

async function importClass(module: StoreModule): Promise<PluginClass> {
  let exports: Record<string, unknown>;
  try {
    exports = await import(module.url);
  } catch (cause) {
    throw broken(module, reasonOf(cause), cause);
  }
  const found = exports[module.exportName];
  if (typeof found === "function") return found as PluginClass;
  const names = Object.keys(exports).join(", ");
  throw broken(module, `it exports no class ${module.exportName}, only: ${names || "nothing"}`);
}

function broken({ url }: StoreModule, problem: string, cause?: unknown): UcmError {
  return new UcmError(
    "UCM_ERR_CONFIG",
    `The connector plug-in ${url} cannot be used: ${problem}.`,
    {
      cause,
    },
  );
}

function reasonOf(cause: unknown): string {
  return (cause instanceof Error ? cause.message : String(cause)).split("\n")[0]!;
}

/** Moves blocks between the arena and a plug-in, each with a checksum of its key and bytes. */
class PluginAdapter implements OpenedStore {
  readonly numLayers: number;
  readonly #store: PluginStore;
  readonly #arena: KvArena;
  readonly #namespace: string;
  readonly #timeoutMs: number;
  readonly #counts = {
    ...{ lookups: 0, lookupHits: 0, loadedBlocks: 0, loadedBytes: 0, loadMisses: 0 },
    ...{ loadFailures: 0, dumpedBlocks: 0, dumpedBytes: 0, dumpsRefused: 0, corruptBlocks: 0 },
  };
  #transfers: StoreTransfer[] = [];

  constructor(store: PluginStore, { arena, numLayers, context, timeoutMs }: PluginOptions) {
    this.#store = store;
    this.#arena = arena;
    this.numLayers = numLayers;
    this.#namespace = context.namespace;
    this.#timeoutMs = timeoutMs;
  }

  async lookup(keys: readonly string[]) {
    const found = await this.#ask(keys, () => this.#store.has(keys));
    const tiers = keys.map((_, i) => (found?.[i] === true ? ("file" as const) : null));
    this.#counts.lookups += keys.length;
    this.#counts.lookupHits += tiers.filter((tier) => tier !== null).length;
    return tiers;
  }

  async load(keys: readonly string[], blockIds: Int32Array, progress: Int32Array) {
    const started = performance.now();
    const records = await this.#ask(keys, () => this.#store.get(keys));
    const statuses = keys.map((key, i) =>
      records === null ? "failed" : this.#fill(key, blockIds[i]!, records[i]),
    );
    Atomics.store(progress, 0, this.numLayers);
    const bad = keys.filter((_, i) => statuses[i] === "corrupt");
    if (bad.length > 0) void this.forget(bad);
    const loaded = statuses.filter((status) => status === "ok").length;
    this.#counts.loadedBlocks += loaded;
    this.#counts.loadedBytes += loaded * this.#arena.bytesPerBlock;
    this.#counts.loadMisses += statuses.filter((status) => status === "missing").length;
    this.#counts.loadFailures += statuses.filter((status) => status === "failed").length;
    this.#counts.corruptBlocks += bad.length;
    this.#note("load", loaded, started);
    return statuses;
  }

  /** Its loads need this thread, so there is no sense in holding it. */
  waitForLayers(progress: Int32Array, layers: number): boolean {
    return Atomics.load(progress, 0) >= layers;
  }

  async dump(keys: readonly string[], blockIds: Int32Array) {
    const started = performance.now();
    const records = keys.map((key, i) => this.#record(key, blockIds[i]!));
    const kept = await this.#ask(keys, () => this.#store.put(keys, records));
    const isStored = keys.map((_, i) => kept?.[i] === true);
    const stored = isStored.filter(Boolean).length;
    this.#counts.dumpedBlocks += stored;
    this.#counts.dumpedBytes += stored * this.#arena.bytesPerBlock;
    this.#counts.dumpsRefused += keys.length - stored;
    this.#note("save", stored, started);
    return isStored;
  }

  /** A plug-in promises nothing about what it keeps. */
  async pin(keys: readonly string[]) {
    return keys.map(() => false);
  }

  unpin(): void {}

  async forget(keys: readonly string[]): Promise<void> {
    await this.#ask(keys, async () => (await this.#store.delete?.(keys)) ?? []);
  }

  report = () => {
    const transfers = this.#transfers;
    this.#transfers = [];
    const { bytesPerBlock } = this.#arena;
    return { tiers: { module: { ...this.#counts } }, bytesPerBlock, transfers };
  };

  async close(): Promise<void> {
    await this.#ask([], async () => (await this.#store.close?.()) ?? []);
  }

  /** What the plug-in answers; null when it fails, takes too long, or answers something else. */
  async #ask<T>(keys: readonly string[], call: () => Promise<T[]>): Promise<T[] | null> {
    let timer: NodeJS.Timeout | undefined;
    const expired = new Promise<null>((resolve) => {
      timer = setTimeout(resolve, this.#timeoutMs, null);
    });
    try {
      const answer = await Promise.race([call(), expired]);
      return Array.isArray(answer) && answer.length >= keys.length ? answer : null;
    } catch {
      return null;
    } finally {
      clearTimeout(timer);
    }
  }

  #record(key: string, blockId: number): Uint8Array {
    const pieces = Array.from({ length: this.numLayers }, (_, layer) =>
      this.#arena.readBlock(blockId, layer),
    );
    const bytes = Buffer.concat(pieces);
    return Buffer.concat([this.#digest(key, bytes), bytes]);
  }

  #fill(key: string, blockId: number, record: Uint8Array | null | undefined): StoreBlockStatus {
    if (record === null || record === undefined) return "missing";
    const { bytesPerBlock } = this.#arena;
    if (!(record instanceof Uint8Array) || record.length !== DIGEST_BYTES + bytesPerBlock) {
      return "corrupt";
    }
    const bytes = record.subarray(DIGEST_BYTES);
    if (!this.#digest(key, bytes).equals(record.subarray(0, DIGEST_BYTES))) return "corrupt";
    const layerBytes = bytesPerBlock / this.numLayers;
    for (let layer = 0; layer < this.numLayers; layer++) {
      this.#arena.writeBlock(blockId, layer, bytes.subarray(layer * layerBytes));
    }
    return "ok";
  }

  #digest(key: string, bytes: Uint8Array): Buffer {
    return createHash("sha256").update(this.#namespace).update(key).update(bytes).digest();
  }

  #note(kind: StoreTransfer["kind"], blocks: number, startedMs: number): void {
    if (blocks === 0) return;
    this.#transfers.push({ kind, blocks, durationMs: performance.now() - startedMs });
  }
}
