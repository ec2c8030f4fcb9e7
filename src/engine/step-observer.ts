import type { EngineConfig } from "../config/engine-config.js";
import type { StepMessage } from "../messages/index.js";
import type { EngineObserver, PromptTokensBySource } from "../metrics/index.js";
import type { StartedSequence } from "../scheduler/index.js";

/** Counts where prompts came from and tells the observer what steps do. */
export class StepObserver {
  readonly #config: EngineConfig;
  readonly #observer: EngineObserver | null;
  readonly #sources = { computed: 0, cached: 0, loaded: 0 };

  constructor(config: EngineConfig, observer: EngineObserver | null) {
    this.#config = config;
    this.#observer = observer;
  }

  /** Prompt tokens since the start. */
  get promptTokensBySource(): PromptTokensBySource {
    return { ...this.#sources };
  }

  started({ promptLength, numCachedTokens, loadedBlocks }: StartedSequence): void {
    const { store, cache } = this.#config;
    const numLoaded = loadedBlocks === undefined ? 0 : loadedBlocks.memory + loadedBlocks.file;
    const loaded = numLoaded * cache.blockSize;
    this.#sources.computed += promptLength - numCachedTokens;
    this.#sources.cached += numCachedTokens - loaded;
    this.#sources.loaded += loaded;
    const numBlocks = Math.floor(promptLength / cache.blockSize);
    if (store?.canLoad && numBlocks > 0) this.#observer?.lookedUp(numLoaded / numBlocks);
  }

  stepped({ scheduled, store }: StepMessage): void {
    if (this.#observer === null) return;
    const { loads, dumps } = store ?? { loads: [], dumps: [] };
    const blocks = (transfers: readonly { keys: readonly string[] }[]) =>
      transfers.reduce((sum, { keys }) => sum + keys.length, 0);
    this.#observer.stepped({
      numTokens: scheduled.reduce((sum, { numTokens }) => sum + numTokens, 0),
      loadRequests: loads.length,
      loadBlocks: blocks(loads),
      saveRequests: dumps.length,
      saveBlocks: blocks(dumps),
    });
  }
}
