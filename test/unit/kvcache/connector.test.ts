import { describe, expect, it } from "vitest";
import { Connector } from "../../../src/kvcache/index.js";
import type { StoreConfig, StoreNews } from "../../../src/messages/index.js";
import { testStoreConfig } from "../../helpers/engine-config.js";

const shape = { bytesPerBlock: 1000, blockSize: 10 };
const connect = (changes: Partial<StoreConfig> = {}) =>
  new Connector({ ...testStoreConfig, ...changes }, shape);
const news = (changes: Partial<StoreNews>): StoreNews => ({
  found: [],
  loaded: [],
  notStored: [],
  ...changes,
});
const step = { numTokens: 0, durationMs: 0 };
const dump = (connector: Connector, seqId: number, keys: string[], blockIds: number[]) =>
  connector.dump({ seqId, keys, blockIds, isFilled: false });
const dumped = (connector: Connector) =>
  connector.takeWork()?.dumps.flatMap(({ keys }) => keys) ?? [];

describe("what is asked of the store", () => {
  it("goes with one step, and is outstanding until it is answered", () => {
    const connector = connect();
    expect(connector.takeWork()).toBeNull();
    const lookup = connector.lookup(["a", "b"]);
    const load = connector.load(["a"], [7]);
    expect(connector.takeWork()).toEqual({
      lookups: [{ taskId: lookup, keys: ["a", "b"] }],
      loads: [{ taskId: load, keys: ["a"], blockIds: Int32Array.of(7) }],
      dumps: [],
      forgets: [],
      pins: [],
      unpins: [],
    });
    expect(connector.takeWork()).toBeNull();
    expect(connector.isBusy).toBe(true);
    connector.receive(news({ found: [{ taskId: lookup, tiers: ["memory", null] }] }), step);
    expect(connector.isBusy).toBe(true);
    connector.receive(news({ loaded: [{ taskId: load, statuses: ["ok"], durationMs: 1 }] }), step);
    expect(connector.isBusy).toBe(false);
  });

  it("pins until it is told to let go, which does not wait for other work", () => {
    const connector = connect();
    const pinId = connector.pin(["a", "b"]);
    expect(connector.owesStep).toBe(false);
    expect(connector.takeWork()!.pins).toEqual([{ pinId, keys: ["a", "b"] }]);
    connector.unpin(pinId);
    expect(connector.owesStep).toBe(true);
    expect(connector.takeWork()!.unpins).toEqual([pinId]);
    expect(connector.owesStep).toBe(false);
    expect(connector.takeWork()).toBeNull();
  });

  it("leaves out dumps of what is there, until the store says otherwise", () => {
    const connector = connect();
    dump(connector, 1, ["a", "b"], [3, 4]);
    expect(dumped(connector)).toEqual(["a", "b"]);
    dump(connector, 2, ["b", "c"], [5, 6]);
    expect(connector.takeWork()!.dumps).toEqual([
      { seqId: 2, keys: ["c"], blockIds: Int32Array.of(6), isFilled: false },
    ]);
    connector.receive(news({ notStored: ["c"] }), step);
    dump(connector, 3, ["a", "c"], [5, 6]);
    expect(dumped(connector)).toEqual(["c"]);
    const taskId = connector.lookup(["a", "d"]);
    connector.receive(news({ found: [{ taskId, tiers: [null, "file"] }] }), step);
    connector.takeWork();
    dump(connector, 4, ["a", "d"], [1, 2]);
    expect(dumped(connector)).toEqual(["a"]);
    const load = connector.load(["d"], [2]);
    connector.takeWork();
    const statuses = ["corrupt" as const];
    connector.receive(news({ loaded: [{ taskId: load, statuses, durationMs: null }] }), step);
    dump(connector, 5, ["d"], [2]);
    expect(dumped(connector)).toEqual(["d"]);
  });

  it("is stored again when it was to be forgotten", () => {
    const connector = connect();
    dump(connector, 1, ["a", "b"], [1, 2]);
    connector.takeWork();
    connector.forget(["a"]);
    expect(connector.takeWork()).toMatchObject({ dumps: [], forgets: ["a"] });
    dump(connector, 2, ["a", "b"], [1, 2]);
    expect(dumped(connector)).toEqual(["a"]);
  });

  it("goes by the role", () => {
    const consumer = connect({ canDump: false });
    consumer.forget(["a"]);
    dump(consumer, 1, ["a"], [1]);
    expect(consumer.takeWork()).toBeNull();
    // Nobody would tell a producer that a block has gone: it leaves that to the store.
    const producer = connect({ canLoad: false });
    for (let i = 0; i < 2; i++) {
      dump(producer, 1, ["a"], [1]);
      expect(dumped(producer)).toEqual(["a"]);
    }
  });
});

describe("whether a load is worth it", () => {
  function measured(loadMs: number, computeMs: number) {
    const connector = connect({ loadDecision: "auto" });
    const taskId = connector.load(["a", "b"], [1, 2]);
    const statuses = ["ok" as const, "ok" as const];
    connector.receive(news({ loaded: [{ taskId, statuses, durationMs: loadMs }] }), {
      numTokens: 100,
      durationMs: computeMs,
    });
    return connector;
  }

  it("is taken for granted until both speeds were measured", () => {
    const connector = connect({ loadDecision: "auto" });
    expect(connector.isWorthLoading(1)).toBe(true);
    connector.receive(null, { numTokens: 1000, durationMs: 0.001 });
    expect(connector.isWorthLoading(1)).toBe(true);
  });

  it("is what was measured: a slow store is left alone, and tried now and then", () => {
    // 2 ms for looking up and starting, then 1 ms per block, against 10 ms per block.
    expect(measured(2, 100).isWorthLoading(1)).toBe(true);
    const slow = measured(200, 100);
    const decisions = Array.from({ length: 32 }, () => slow.isWorthLoading(5));
    expect(decisions.filter(Boolean)).toHaveLength(2);
    expect(connect({ loadDecision: "always" }).isWorthLoading(1)).toBe(true);
  });

  it("moves with newer measurements", () => {
    const connector = measured(200, 100);
    for (let i = 0; i < 30; i++) {
      const taskId = connector.load(["a"], [1]);
      const loaded = [{ taskId, statuses: ["ok" as const], durationMs: 0.5 }];
      connector.receive(news({ loaded }), step);
    }
    expect(connector.isWorthLoading(5)).toBe(true);
  });
});
