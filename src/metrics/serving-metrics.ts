import { collectDefaultMetrics, Registry } from "prom-client";
import { createEngineMetrics, type EngineFacts } from "./engine-metrics.js";
import { createHttpMetrics, type HttpRecord } from "./http-metrics.js";
import type { EngineObserver, EngineSnapshot } from "./observations.js";
import { SeriesMaker } from "./series.js";
import { createSparseMetrics } from "./sparse-metrics.js";
import { createStoreMetrics } from "./store-metrics.js";

export interface ServingMetricsOptions extends EngineFacts {
  /** The first served name; on every series of the engine. */
  modelName: string;
  /** False leaves the engine's series out (--disable-log-stats). */
  hasEngineSeries: boolean;
}

/**
 * All series of a server in one registry. The engine pushes single events to `observer`; totals and
 * load are read from `snapshot` at each scrape. A further part of the engine adds its numbers as a
 * module like store-metrics.ts: a function that takes a SeriesMaker and returns its observer.
 */
export class ServingMetrics {
  readonly observeHttp: (record: HttpRecord) => void;
  readonly observer: EngineObserver | null;
  readonly #registry = new Registry();
  /** Null until the engine runs. */
  #snapshot: () => EngineSnapshot | null = () => null;

  constructor({ modelName, hasEngineSeries, ...facts }: ServingMetricsOptions) {
    collectDefaultMetrics({ register: this.#registry });
    this.observeHttp = createHttpMetrics(this.#registry);
    this.observer = hasEngineSeries ? this.#createObserver(modelName, facts) : null;
  }

  /** Of the exposition; the same as that of vLLM's. */
  get contentType(): string {
    return this.#registry.contentType;
  }

  /** Where totals and load are read from now on. */
  readFrom(snapshot: () => EngineSnapshot): void {
    this.#snapshot = snapshot;
  }

  /** The text exposition of all series. */
  async render(): Promise<string> {
    return this.#registry.metrics();
  }

  #createObserver(modelName: string, facts: EngineFacts): EngineObserver {
    const series = new SeriesMaker(this.#registry, { model_name: modelName, engine: "0" });
    const snapshot = () => this.#snapshot();
    const engine = createEngineMetrics(series, facts, snapshot);
    const store = createStoreMetrics(series, snapshot);
    return {
      ...engine,
      ...store,
      ...createSparseMetrics(series, snapshot),
      stepped(record) {
        engine.stepped(record);
        store.stepped(record);
      },
    };
  }
}
