import { createHash } from "node:crypto";
import { afterEach, describe, expect, it } from "vitest";
import {
  type ArenaSpec,
  type KvArena,
  type KvStore,
  loadNative,
  type SparseAttention,
  type SparseSpec,
} from "../../src/native/index.js";
import { expectError } from "./addon.js";

const native = loadNative();

const headDim = 64;
const arenaSpec: ArenaSpec = {
  numBlocks: 40,
  numLayers: 2,
  blockSize: 16,
  numQueryHeads: 4,
  numKvHeads: 2,
  headDim,
  dtype: "float32",
  rope: { invFreq: Float64Array.from({ length: 32 }, (_, i) => 10000 ** (-i / 32)), scale: 1 },
  representation: { kind: "cuboid", tokens: 16 },
};
const spec: SparseSpec = {
  score: "representation",
  firstBy: "score",
  groupReduce: "max",
  denseLayers: 0,
  stride: 2,
  nextShare: 0.7,
  driftCosine: 0,
  recallEvery: 0,
  waitMs: 10_000,
  seed: 1,
};
const qWidth = arenaSpec.numQueryHeads * headDim;
const kvWidth = arenaSpec.numKvHeads * headDim;
/** A prompt of 12 full blocks and 3 tokens, and room to decode. */
const promptTokens = 195;
const tokens = 230;
const budget = { init: 1, candidates: 10, topK: 3 };
const seqId = 7;

function randomArray(length: number, seed: number): Float32Array {
  const values = new Float32Array(length);
  native.fillRandom(values, seed, 1);
  return values;
}

const q = randomArray(tokens * qWidth, 1);
const k = randomArray(tokens * kvWidth, 2);
const v = randomArray(tokens * kvWidth, 3);

const keys = Uint8Array.from(
  Array.from({ length: budget.candidates }, (_, i) => [
    ...createHash("sha256").update(`block ${i}`).digest(),
  ]).flat(),
);
const blocks = Int32Array.from({ length: 15 }, (_, i) => 2 * i + 3);
const candidateBlocks = blocks.subarray(1, 1 + budget.candidates);

const slotBlocks = (slots: number[]) => Int32Array.from(slots, (slot) => candidateBlocks[slot]!);

interface Sparse {
  attention: SparseAttention;
  slots: number[];
}

/** Runs tokens [begin, end) through both layers; with `sparse`, over the blocks that are kept. */
function step(
  arena: KvArena,
  begin: number,
  end: number,
  watched?: SparseAttention,
  kept?: Sparse,
) {
  const attention = watched ?? kept?.attention;
  const left = kept === undefined ? 0 : budget.candidates - kept.slots.length;
  const table =
    kept === undefined
      ? blocks
      : Int32Array.of(
          blocks[0]!,
          ...slotBlocks(kept.slots),
          ...blocks.subarray(1 + budget.candidates),
        );
  arena.beginStep({
    queryStart: Int32Array.of(0, end - begin),
    contextLens: Int32Array.of(end - left * arenaSpec.blockSize),
    blockStart: Int32Array.of(0, table.length),
    blockIds: table,
    ...(attention && {
      sparse: { attention, seqIds: Int32Array.of(seqId), positions: Int32Array.of(begin) },
    }),
  });
  return Array.from({ length: arenaSpec.numLayers }, (_, layer) => {
    const out = new Float32Array((end - begin) * qWidth);
    // The second layer sees other values, so that it chooses other blocks.
    const sign = layer === 0 ? 1 : -1;
    arena.forward(
      {
        layer,
        q: q.subarray(begin * qWidth, end * qWidth).map((x, i) => (i % 3 === 0 ? sign * x : x)),
        qStride: qWidth,
        k: k.subarray(begin * kvWidth, end * kvWidth),
        kStride: kvWidth,
        v: v.subarray(begin * kvWidth, end * kvWidth),
        vStride: kvWidth,
        qNorm: null,
        kNorm: null,
        normEps: 1e-6,
      },
      out,
    );
    return out;
  });
}

const open: { arena: KvArena; store: KvStore; attention: SparseAttention }[] = [];
afterEach(async () => {
  for (const { arena, store, attention } of open.splice(0)) {
    attention.dispose();
    await store.close();
    arena.dispose();
  }
});

/** A prompt in an arena and in a store, watched. */
async function setUp(changes: Partial<SparseSpec> = {}, topK = budget.topK, begin = true) {
  const arena = native.createArena(arenaSpec);
  const store = native.createStore({
    namespace: new Uint8Array(32),
    bytesPerBlock: arena.bytesPerBlock,
    numLayers: arenaSpec.numLayers,
    blockSize: arenaSpec.blockSize,
    memory: { capacityBytes: 64 * arena.bytesPerBlock },
  });
  const attention = native.createSparseAttention(arena, store, { ...spec, ...changes });
  open.push({ arena, store, attention });
  if (begin) {
    step(arena, 0, promptTokens);
    await store.dump(keys, arena, candidateBlocks);
    attention.watch(seqId, { ...budget, topK }, blocks, keys);
  }
  return { arena, store, attention };
}

const range = (count: number, from = 0) => Array.from({ length: count }, (_, i) => from + i);

describe("sparse attention", () => {
  it("is dense to the bit while it watches, and with all candidates chosen", async () => {
    const dense = (await setUp({}, budget.topK, false)).arena;
    step(dense, 0, promptTokens);
    const { arena, attention } = await setUp({ stride: 1 }, budget.candidates);
    expect(step(arena, 195, 196, attention)).toEqual(step(dense, 195, 196));
    attention.finishStep();
    attention.enter(seqId, candidateBlocks);
    const kept = { attention, slots: range(budget.candidates) };
    for (const token of range(20, 196)) {
      expect([...attention.settle(Int32Array.of(seqId))]).toEqual([]);
      expect(step(arena, token, token + 1, undefined, kept)).toEqual(step(dense, token, token + 1));
      attention.finishStep();
    }
  });

  it("attends what each layer chose, and reads what it chooses anew from the store", async () => {
    const { arena, store, attention } = await setUp();
    step(arena, 195, 196, attention);
    attention.finishStep();
    const kept = { attention, slots: [2, 3, 8] };
    attention.enter(seqId, slotBlocks(kept.slots));
    for (const token of range(12, 196)) {
      expect([...attention.settle(Int32Array.of(seqId))]).toEqual([]);
      for (const layer of [0, 1]) {
        const chosen = [...attention.selection(seqId, layer)];
        expect(chosen).toEqual(chosen.toSorted((a, b) => a - b));
        expect(new Set(chosen).size).toBe(budget.topK);
      }
      step(arena, token, token + 1, undefined, kept);
      attention.finishStep();
    }
    expect(attention.selection(seqId, 0)).not.toEqual(attention.selection(seqId, 1));
    const stats = attention.stats();
    expect(stats.selections).toBeGreaterThan(5);
    expect(stats.loadedPieces).toBeGreaterThan(0);
    // The last selection is still on its way.
    await expect
      .poll(() => attention.stats().loadedPieces - store.stats().memory!.loadedPieces)
      .toBe(0);
    expect(stats).toMatchObject({ lostSequences: 0, sequences: 1 });
    attention.leave(Int32Array.of(seqId, 99));
    expect(attention.stats()).toMatchObject({
      sequences: 0,
      representationBytes: 0,
      denseLayerBytes: 0,
    });
  });

  it("gives up a sequence whose blocks are gone", async () => {
    const { arena, store, attention } = await setUp({ score: "random" });
    step(arena, 195, 196, attention);
    attention.finishStep();
    const kept = { attention, slots: [0, 1, 2] };
    attention.enter(seqId, slotBlocks(kept.slots));
    await store.forget(keys);
    step(arena, 196, 197, undefined, kept);
    attention.finishStep();
    expect([...attention.settle(Int32Array.of(seqId))]).toEqual([]);
    step(arena, 197, 198, undefined, kept);
    attention.finishStep();
    expect([...attention.settle(Int32Array.of(seqId, 99))]).toEqual([seqId, 99]);
    expect(attention.stats().lostSequences).toBe(1);
    expectError(() => step(arena, 198, 199, undefined, kept), "sequence 7 is not watched");
  });

  it("measures the share of the attention that was kept", async () => {
    const { arena, attention } = await setUp({ recallEvery: 1 });
    step(arena, 195, 196, attention);
    attention.finishStep();
    const kept = { attention, slots: [0, 1, 2] };
    attention.enter(seqId, slotBlocks(kept.slots));
    attention.settle(Int32Array.of(seqId));
    step(arena, 196, 197, undefined, kept);
    attention.finishStep();
    await expect.poll(() => attention.takeRecalls().length).toBe(1);
  });

  it("refuses wrong arguments", async () => {
    const { arena, store, attention } = await setUp({}, budget.topK, false);
    expectError(
      () => native.createSparseAttention(arena, store, { ...spec, score: "best" as never }),
      "createSparseAttention: score is 'best', expected one of representation, random, oracle",
    );
    expectError(
      () => native.createSparseAttention(arena, store, { ...spec, stride: 0 }),
      "stride is 0, expected an integer from 1",
    );
    expectError(
      () => native.createSparseAttention(arena, arena as never, spec),
      "store is not a KV store",
    );
    expectError(
      () => attention.watch(1, budget, blocks.subarray(0, 5), keys),
      "watch: sequence 1 has 5 blocks and 10 keys, expected 11 or more and 10",
    );
    expectError(() => attention.enter(1, Int32Array.of(0)), "enter: sequence 1 is not watched");
    attention.watch(1, budget, blocks, keys);
    expectError(() => attention.watch(1, budget, blocks, keys), "sequence 1 is watched already");
    expectError(
      () => attention.enter(1, Int32Array.of(0, 1, 2)),
      "enter: sequence 1 has not decoded since it is watched",
    );
    attention.dispose();
    expectError(() => attention.stats(), "the sparse attention was disposed");
  });
});
