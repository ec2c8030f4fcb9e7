import { beforeAll, describe, expect, it } from "vitest";
import {
  type ArenaSpec,
  type BatchSpec,
  type KvArena,
  type LayerInput,
  loadNative,
} from "../../src/native/index.js";
import { expectError } from "./addon.js";

const native = loadNative();

const headDim = 64;
const spec: ArenaSpec = {
  numBlocks: 12,
  numLayers: 2,
  blockSize: 16,
  numQueryHeads: 4,
  numKvHeads: 2,
  headDim,
  dtype: "float32",
  rope: { invFreq: Float64Array.from({ length: 32 }, (_, i) => 10000 ** (-i / 32)), scale: 1 },
};
const qWidth = spec.numQueryHeads * headDim;
const kvWidth = spec.numKvHeads * headDim;
const tokens = 70;

function randomArray(length: number, seed: number): Float32Array {
  const values = new Float32Array(length);
  native.fillRandom(values, seed, 1);
  return values;
}

const q = randomArray(tokens * qWidth, 1);
const k = randomArray(tokens * kvWidth, 2);
const v = randomArray(tokens * kvWidth, 3);

/** One sequence that feeds tokens [begin, end). */
function oneSequence(begin: number, end: number, blockIds: number[]): BatchSpec {
  return {
    queryStart: Int32Array.of(0, end - begin),
    contextLens: Int32Array.of(end),
    blockStart: Int32Array.of(0, blockIds.length),
    blockIds: Int32Array.from(blockIds),
  };
}

function layerInput(begin: number, end: number, overrides: Partial<LayerInput> = {}): LayerInput {
  return {
    layer: 0,
    q: q.subarray(begin * qWidth, end * qWidth),
    qStride: qWidth,
    k: k.subarray(begin * kvWidth, end * kvWidth),
    kStride: kvWidth,
    v: v.subarray(begin * kvWidth, end * kvWidth),
    vStride: kvWidth,
    qNorm: null,
    kNorm: null,
    normEps: 1e-6,
    ...overrides,
  };
}

function run(arena: KvArena, begin: number, end: number, blockIds: number[]): Float32Array {
  const out = new Float32Array((end - begin) * qWidth);
  arena.beginStep(oneSequence(begin, end, blockIds));
  arena.forward(layerInput(begin, end), out);
  return out;
}

/** Head vector of a token, rotated to its position. */
function rotated(values: Float32Array, offset: number, position: number): number[] {
  const half = headDim / 2;
  const head = Array.from(values.subarray(offset, offset + headDim));
  return head.map((x, i) => {
    const angle = position * spec.rope!.invFreq[i % half]!;
    const other = i < half ? -head[i + half]! : head[i - half]!;
    return x * Math.cos(angle) + other * Math.sin(angle);
  });
}

/** Attention of one token and head by its definition. */
function expectedHead(token: number, head: number): number[] {
  const kvHead = Math.floor(head / 2);
  const query = rotated(q, token * qWidth + head * headDim, token);
  const weights = Array.from({ length: token + 1 }, (_, position) => {
    const key = rotated(k, position * kvWidth + kvHead * headDim, position);
    return Math.exp(key.reduce((sum, x, i) => sum + x * query[i]!, 0) / Math.sqrt(headDim));
  });
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  return query.map((_, d) => {
    const at = (position: number) => v[position * kvWidth + kvHead * headDim + d]!;
    return weights.reduce((sum, weight, position) => sum + weight * at(position), 0) / total;
  });
}

const blocks = [3, 0, 11, 7, 5];

describe("forward", () => {
  it("is causal attention", () => {
    const arena = native.createArena(spec);
    const out = run(arena, 0, tokens, blocks);
    for (const token of [0, 1, 15, 16, 40, tokens - 1]) {
      for (let head = 0; head < spec.numQueryHeads; head++) {
        const expected = expectedHead(token, head);
        const from = token * qWidth + head * headDim;
        expected.forEach((value, d) => {
          expect(Math.abs(out[from + d]! - value)).toBeLessThan(1e-5);
        });
      }
    }
    arena.dispose();
  });

  it("gives the same bits token by token, at other blocks, with other threads", () => {
    const whole = native.createArena(spec);
    const expected = run(whole, 0, tokens, blocks);
    native.setThreads(2);
    const arena = native.createArena(spec);
    for (let token = 0; token < tokens; token++) {
      const out = run(arena, token, token + 1, [1, 2, 4, 6, 8]);
      expect(out).toEqual(expected.subarray(token * qWidth, (token + 1) * qWidth));
    }
    native.setThreads(1);
    whole.dispose();
    arena.dispose();
  });

  it("reads projections out of one fused buffer by their strides", () => {
    const arena = native.createArena(spec);
    const expected = run(arena, 0, 3, [0]);
    const stride = qWidth + 2 * kvWidth;
    const fused = new Float32Array(3 * stride);
    for (let row = 0; row < 3; row++) {
      fused.set(q.subarray(row * qWidth, (row + 1) * qWidth), row * stride);
      fused.set(k.subarray(row * kvWidth, (row + 1) * kvWidth), row * stride + qWidth);
      fused.set(v.subarray(row * kvWidth, (row + 1) * kvWidth), row * stride + qWidth + kvWidth);
    }
    const out = new Float32Array(3 * qWidth);
    arena.beginStep(oneSequence(0, 3, [0]));
    const input = layerInput(0, 3, {
      q: fused,
      k: fused.subarray(qWidth),
      v: fused.subarray(qWidth + kvWidth),
      qStride: stride,
      kStride: stride,
      vStride: stride,
    });
    arena.forward(input, out);
    expect(out).toEqual(expected);
    arena.dispose();
  });

  it("norms queries and keys per head", () => {
    const arena = native.createArena({ ...spec, rope: null });
    const weight = randomArray(headDim, 9);
    arena.beginStep(oneSequence(0, 1, [0]));
    arena.forward(layerInput(0, 1, { kNorm: weight }), new Float32Array(qWidth));
    const stored = new Float32Array(arena.readBlock(0, 0).buffer);
    const head = k.subarray(0, headDim);
    const mean = head.reduce((sum, x) => sum + x * x, 0) / headDim;
    head.forEach((x, i) => {
      expect(stored[i]).toBeCloseTo((x / Math.sqrt(mean + 1e-6)) * weight[i]!, 5);
    });
    arena.dispose();
  });

  it("stores [K|V][kv head][token][dim] rounded to the arena's dtype", () => {
    const arena = native.createArena({ ...spec, rope: null, dtype: "bfloat16" });
    run(arena, 0, 20, [2, 9]);
    const stored = new Uint16Array(arena.readBlock(9, 0).buffer);
    const values = v.slice();
    native.roundToDtype(values, "bfloat16");
    const bits = new Uint32Array(values.buffer);
    // Token 17 is slot 1 of the second block; KV head 1 of V.
    const from = ((1 * spec.numKvHeads + 1) * spec.blockSize + 1) * headDim;
    for (let d = 0; d < headDim; d++) {
      expect(stored[from + d]).toBe(bits[17 * kvWidth + headDim + d]! >>> 16);
    }
    expect(arena.readBlock(9, 1).every((byte) => byte === 0)).toBe(true);
    arena.dispose();
  });
});

describe("arguments", () => {
  let arena: KvArena;
  beforeAll(() => {
    arena = native.createArena(spec);
  });

  it("reports its sizes", () => {
    expect(arena.bytesPerBlock).toBe(2 * 2 * 2 * 16 * 64 * 4);
    expect(arena.kvBytes).toBe(12 * arena.bytesPerBlock);
  });

  it("refuses a wrong arena", () => {
    expectError(
      () => native.createArena({ ...spec, headDim: 60 }),
      "createArena: headDim is 60, expected a multiple of 8",
    );
    expectError(
      () => native.createArena({ ...spec, numBlocks: 1.5 }),
      "createArena: numBlocks is 1.5, expected an integer from 1 to 2147483647",
    );
    expectError(
      () => native.createArena({ ...spec, dtype: "int8" as never }),
      "createArena: dtype is 'int8', expected float32, bfloat16 or float16",
    );
    expectError(
      () => native.createArena({ ...spec, rope: { invFreq: new Float64Array(33), scale: 1 } }),
      "rope.invFreq has 33 elements, expected at most headDim / 2 = 32",
    );
  });

  it("says when the machine cannot reserve it", () => {
    expectError(
      () => native.createArena({ ...spec, numBlocks: 2147483647, numLayers: 4096 }),
      "cannot reserve a KV cache of 2147483647 blocks",
      "UCM_ERR_MEMORY",
    );
  });

  it("refuses a batch that does not fit", () => {
    const batch = oneSequence(0, 3, [0]);
    expectError(
      () => arena.beginStep({ ...batch, blockIds: Int32Array.of(12) }),
      "beginStep: blockIds[0] is 12, expected 0 to 11",
    );
    expectError(
      () => arena.beginStep({ ...batch, contextLens: Int32Array.of(17) }),
      "beginStep: contextLens[0] is 17, expected from 3 (its rows) to 16 (its 1 blocks of 16 tokens)",
    );
    expectError(
      () => arena.beginStep({ ...batch, queryStart: [0, 3] as never }),
      "beginStep: queryStart is a value of another type, expected an Int32Array",
    );
    expectError(
      () => arena.forward(layerInput(0, 3), new Float32Array(3 * qWidth)),
      "forward: no step has begun; call beginStep first",
    );
  });

  it("refuses wrong layer inputs", () => {
    arena.beginStep(oneSequence(0, 3, [0]));
    const out = new Float32Array(3 * qWidth);
    const refused = (overrides: Partial<LayerInput>, message: string) =>
      expectError(() => arena.forward(layerInput(0, 3, overrides), out), `forward: ${message}`);
    refused({ layer: 2 }, "layer is 2, expected an integer from 0 to 1");
    refused({ q: q.subarray(0, 3 * qWidth - 1) }, "q has 767 elements, expected at least 768");
    refused({ k: new Float64Array(9999) as never }, "k is a typed array of another type");
    refused({ vStride: 10 }, "vStride is 10, expected an integer from 128 to 2147483647");
    refused({ qNorm: new Float32Array(8) }, "qNorm has 8 elements, expected at least 64");
    refused({ normEps: "x" as never }, "normEps is x, expected a number");
    expectError(
      () => arena.forward(layerInput(0, 3), out.subarray(1)),
      "forward: out has 767 elements, expected at least 768",
    );
    expectError(() => arena.readBlock(12, 0), "readBlock: blockId is 12");
  });

  it("refuses use after dispose", () => {
    const disposed = native.createArena(spec);
    disposed.dispose();
    disposed.dispose();
    expectError(() => disposed.kvBytes, "the KV arena was disposed");
    expectError(() => disposed.beginStep(oneSequence(0, 3, [0])), "the KV arena was disposed");
    expectError(
      () => disposed.forward(layerInput(0, 3), new Float32Array(768)),
      "the KV arena was disposed",
    );
    expectError(() => disposed.readBlock(0, 0), "the KV arena was disposed");
  });

  it("refuses a handle that JavaScript constructed, and a foreign receiver", () => {
    const Handle = (arena as unknown as { constructor: new () => KvArena }).constructor;
    expectError(() => new Handle().bytesPerBlock, "the KV arena was disposed");
    expect(() => arena.dispose.call({} as KvArena)).toThrow();
  });

  it("checks the thread count", () => {
    expectError(() => native.setThreads(0), "setThreads: threads is 0, expected an integer from 1");
  });
});
