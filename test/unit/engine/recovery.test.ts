import { describe, expect, it } from "vitest";
import { Engine, type GenerateOutput } from "../../../src/engine/index.js";
import type { RecoveringExecutor } from "../../../src/engine/types.js";
import { UcmError } from "../../../src/errors/index.js";
import { collect, joinDeltas, makeBench, makeRequest } from "./bench.js";
import { SimulatedExecutor } from "./simulated-executor.js";

const death = new UcmError("UCM_ERR_WORKER", "Worker 0 was killed by SIGKILL.\nits last words");

/** Workers that a test takes away and gives back. */
class ReplaceableWorkers implements RecoveringExecutor {
  current: SimulatedExecutor;
  readonly #make: () => SimulatedExecutor;
  #tell: (error: UcmError) => void = () => {};
  #decide: { resolve(): void; reject(error: Error): void } | null = null;

  constructor(make: () => SimulatedExecutor) {
    this.#make = make;
    this.current = make();
  }

  execute: RecoveringExecutor["execute"] = (step) => this.current.execute(step);

  onLost(listener: (error: UcmError) => void): void {
    this.#tell = listener;
  }

  recover(): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#decide = { resolve, reject };
    });
  }

  /** As a supervisor: the step in flight fails, and whoever listens is told. */
  lose(): void {
    this.current.die(death);
    this.#tell(death);
  }

  replace(): void {
    this.current = this.#make();
    this.#decide!.resolve();
  }

  giveUp(error: Error): void {
    this.#decide!.reject(error);
  }
}

function makeRecoveringBench() {
  const bench = makeBench({ scheduler: { maxNumSeqs: 1 } });
  const workers = new ReplaceableWorkers(() => new SimulatedExecutor(bench.config));
  const { config, tokenizer } = bench;
  return { workers, engine: new Engine({ config, executor: workers, tokenizer }) };
}

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setTimeout(resolve, 1));
}

/** One request with tokens behind it and one that has none, both in the engine. */
async function startTwo() {
  const { engine, workers } = makeRecoveringBench();
  const begun = engine.generate(makeRequest({ maxTokens: 60, ignoreEos: true }));
  await begun.next();
  workers.current.hold();
  const waiting = engine.generate(makeRequest({ maxTokens: 3 }, { promptTokenIds: [7, 8] }));
  return { engine, workers, begun, waiting };
}

const finish = async (stream: AsyncIterable<GenerateOutput>) => joinDeltas(await collect(stream));

describe("an engine whose workers are replaced", () => {
  it("fails what had begun, serves what had not, and takes requests again", async () => {
    const { engine, workers, begun, waiting } = await startTwo();
    workers.lose();
    expect(engine.failure?.message).toBe("Worker 0 was killed by SIGKILL.");
    await expect(finish(begun)).rejects.toThrow(/^Worker 0 was killed by SIGKILL\.$/);
    expect(() => engine.generate(makeRequest())).toThrow("The model is being started again");
    workers.replace();
    expect((await finish(waiting)).finishReason).toBe("length");
    expect(engine.failure).toBeNull();
    const fresh = makeRecoveringBench();
    const expected = await finish(fresh.engine.generate(makeRequest({ maxTokens: 5 })));
    expect(await finish(engine.generate(makeRequest({ maxTokens: 5 })))).toEqual(expected);
    expect(engine.stats()).toMatchObject({ running: 0, waiting: 0, usedBlocks: 0 });
  });

  it("tries a request again once, not twice", async () => {
    const { engine, workers, begun, waiting } = await startTwo();
    workers.lose();
    await expect(finish(begun)).rejects.toThrow("was killed");
    workers.replace();
    workers.current.hold();
    await until(() => workers.current.steps.length > 0);
    workers.lose();
    await expect(finish(waiting)).rejects.toThrow("was killed");
    workers.replace();
    await until(() => engine.failure === null);
    expect((await finish(engine.generate(makeRequest({ maxTokens: 2 })))).tokenIds).toHaveLength(2);
  });

  it("goes on with its totals, which never go backwards", async () => {
    const { engine, workers } = makeRecoveringBench();
    const prompt = { promptTokenIds: [1, 2, 3, 4, 5, 6, 7, 8, 9] };
    const ask = () => finish(engine.generate(makeRequest({ maxTokens: 2 }, prompt)));
    await ask();
    await ask();
    const before = engine.stats();
    expect(before.prefixCacheHits).toBeGreaterThan(0);
    workers.lose();
    expect(engine.stats()).toMatchObject({
      prefixCacheQueries: before.prefixCacheQueries,
      prefixCacheHits: before.prefixCacheHits,
    });
    workers.replace();
    await until(() => engine.failure === null);
    await ask();
    const after = engine.stats();
    // Nothing is found in an arena that is new.
    expect(after.prefixCacheHits).toBe(before.prefixCacheHits);
    expect(after.prefixCacheQueries).toBe((before.prefixCacheQueries / 2) * 3);
    expect(after.promptTokens).toBe((before.promptTokens / 2) * 3);
  });

  it("notices a loss between steps", async () => {
    const { engine, workers } = makeRecoveringBench();
    await finish(engine.generate(makeRequest({ maxTokens: 2 })));
    workers.lose();
    expect(engine.failure).not.toBeNull();
    workers.replace();
    await until(() => engine.failure === null);
  });

  it("keeps a pause, and serves what came during it once", async () => {
    const { engine, workers, begun, waiting } = await startTwo();
    const paused = engine.pause("keep");
    const arrived = engine.generate(makeRequest({ maxTokens: 3 }));
    workers.lose();
    await paused;
    await expect(finish(begun)).rejects.toThrow("was killed");
    workers.replace();
    await until(() => engine.failure === null);
    await new Promise((resolve) => setTimeout(resolve, 20));
    expect(workers.current.steps).toEqual([]);
    engine.resume();
    for (const stream of [waiting, arrived]) {
      expect((await finish(stream)).tokenIds).toHaveLength(3);
    }
    expect(engine.stats()).toMatchObject({ running: 0, waiting: 0 });
  });

  it("frees what is cancelled while it waits", async () => {
    const { engine, workers, begun, waiting } = await startTwo();
    workers.lose();
    await expect(finish(begun)).rejects.toThrow("was killed");
    await waiting.return?.();
    workers.replace();
    await until(() => engine.failure === null);
    expect(workers.current.steps).toEqual([]);
    expect(engine.stats()).toMatchObject({ running: 0, waiting: 0 });
  });

  it("fails all that waits when no workers come, with the reason", async () => {
    const { engine, workers, begun, waiting } = await startTwo();
    workers.lose();
    await expect(finish(begun)).rejects.toThrow("was killed");
    const drained = engine.drain();
    workers.giveUp(new UcmError("UCM_ERR_WORKER", "The workers failed 8 times in a row."));
    await expect(finish(waiting)).rejects.toThrow("8 times in a row");
    await drained;
    expect(engine.failure?.message).toContain("8 times in a row");
  });

  it("waits for nobody once it is closed", async () => {
    const { engine, workers, begun, waiting } = await startTwo();
    const drained = engine.drain();
    workers.lose();
    expect(() => engine.generate(makeRequest())).toThrow("The server is shutting down");
    await expect(finish(begun)).rejects.toThrow("was killed");
    await expect(finish(waiting)).rejects.toThrow("was killed");
    await drained;
  });
});
