import { Counter, Gauge, Histogram, type Registry } from "prom-client";

/** Labels that every series of a module has. */
export type Labels = Record<string, string>;

/** A total only grows while its source lives. */
export type ScrapedType = "total" | "gauge";

/** Makes the series of one module, all with the same first labels. */
export class SeriesMaker {
  readonly #registry: Registry;
  readonly #labels: Labels;

  constructor(registry: Registry, labels: Labels) {
    this.#registry = registry;
    this.#labels = labels;
  }

  /** What others count, a total or a size: `read` is asked for the values at each scrape. */
  scraped(
    type: ScrapedType,
    name: string,
    help: string,
    labels: string[],
    read: () => [Labels, number][],
  ): void {
    const own = this.#labels;
    const configuration = {
      name,
      help,
      labelNames: [...Object.keys(own), ...labels],
      registers: [this.#registry],
      collect(this: Counter | Gauge) {
        this.reset();
        for (const [more, value] of read()) this.inc({ ...own, ...more }, value);
      },
    };
    if (type === "total") new Counter(configuration);
    else new Gauge(configuration);
  }

  /** A counter of events; those of `known` are there from the start, at 0. */
  events(name: string, help: string, label: string, known: readonly string[]) {
    const own = this.#labels;
    const counter = new Counter({
      name,
      help,
      labelNames: [...Object.keys(own), label],
      registers: [this.#registry],
    });
    for (const value of known) counter.inc({ ...own, [label]: value }, 0);
    return (value: string) => counter.inc({ ...own, [label]: value });
  }

  /** A distribution, there from the start; the function returned observes a value. */
  histogram(name: string, help: string, buckets: readonly number[]): (value: number) => void {
    const own = this.#labels;
    const histogram = new Histogram({
      name,
      help,
      labelNames: Object.keys(own),
      buckets: [...buckets],
      registers: [this.#registry],
    });
    histogram.zero(own);
    return (value) => histogram.observe(own, value);
  }
}
