import { describe, expect, it } from "vitest";
import {
  besideBytes,
  bytesPerBlock,
  estimateActivationBytes,
  type KvDemand,
  sizeKvCache,
  toGib,
} from "../../../src/config/kv-size.js";
import { UcmError } from "../../../src/errors/index.js";
import type { KvDtype, SparseConfig } from "../../../src/messages/index.js";
import { testSparseConfig } from "../../helpers/engine-config.js";

const demand: KvDemand = {
  blockSize: 16,
  bytesPerBlock: 1000,
  beside: { perBlock: 0, perSequence: 0 },
  maxModelLen: 100,
  maxNumSeqs: 4,
  shrinkToFit: false,
  numBlocks: null,
  kvBytes: null,
  availableBytes: 20_500,
};

function failure(changes: Partial<KvDemand>): string {
  try {
    sizeKvCache({ ...demand, ...changes });
  } catch (error) {
    expect(error).toBeInstanceOf(UcmError);
    expect((error as UcmError).code).toBe("UCM_ERR_MEMORY");
    return (error as UcmError).message;
  }
  throw new Error("accepted");
}

describe("bytesPerBlock", () => {
  it("counts keys and values of all layers", () => {
    const model = { numLayers: 24, numKvHeads: 2, headDim: 64 };
    expect(bytesPerBlock(model, 16, "bfloat16")).toBe(24 * 2 * 2 * 64 * 16 * 2);
    expect(bytesPerBlock(model, 16, "float32")).toBe(24 * 2 * 2 * 64 * 16 * 4);
  });
});

describe("besideBytes", () => {
  const model = { numLayers: 4, numKvHeads: 2, headDim: 64 };
  const cache = { blockSize: 16, kvDtype: "bfloat16", maxModelLen: 1000 } as const;
  const window = { init: 1, local: 2, minBlocks: 4, ratio: 0.5 };
  /** 63 blocks, of which 60 are candidates and 33 stay. */
  const beside = (changes: Partial<SparseConfig>, kvDtype: KvDtype = "bfloat16") =>
    besideBytes(model, { ...cache, kvDtype }, { ...testSparseConfig, window, ...changes });
  const of = (perSequence: number) => ({ perBlock: Math.ceil(perSequence / 33), perSequence });
  const vector = 2 * 64;

  it("is of the vectors that candidates are ranked by, in fp32", () => {
    expect(beside({})).toEqual(of(60 * 4 * vector * 2 * 4));
    expect(beside({ score: "mean" })).toEqual(of(60 * 4 * vector * 4));
    expect(beside({ score: "oracle" })).toEqual(of(60 * 4 * vector * 16 * 4));
    expect(beside({ score: "random" })).toEqual(of(0));
  });

  it("is of keys and values at dense layers", () => {
    expect(beside({ denseLayers: 4 })).toEqual(of(60 * 4 * vector * 32 * 2));
    expect(beside({ denseLayers: 4 }, "float32")).toEqual(of(60 * 4 * vector * 32 * 4));
    expect(beside({ denseLayers: 1 })).toEqual(of(60 * vector * (3 * 2 * 4 + 32 * 2)));
  });

  it("is nothing where attention is dense", () => {
    expect(besideBytes(model, cache, null)).toEqual(of(0));
    expect(beside({ window: { ...window, ratio: 1 } })).toEqual(of(0));
    expect(beside({ window: { ...window, minBlocks: 100 } })).toEqual(of(0));
  });
});

describe("estimateActivationBytes", () => {
  it("grows with rows and with the vocabulary", () => {
    const model = { hiddenSize: 100, intermediateSize: 200, vocabSize: 1000 };
    const bytes = (maxNumBatchedTokens: number, maxNumSeqs: number) =>
      estimateActivationBytes(model, { maxNumBatchedTokens, maxNumSeqs });
    expect(bytes(64, 1)).toBe(4 * (64 * 1600 + 2000));
    expect(bytes(64, 8) - bytes(64, 1)).toBe(4 * 7 * 2000);
  });
});

describe("sizeKvCache", () => {
  it("takes what memory leaves, in whole blocks", () => {
    expect(sizeKvCache(demand)).toEqual({ numBlocks: 20, kvBytes: 20_000, maxModelLen: 100 });
  });

  it("leaves room for what is held beside it, as far as sequences can come to that", () => {
    const beside = { perBlock: 1000, perSequence: 3000 };
    expect(sizeKvCache({ ...demand, beside }).numBlocks).toBe(10);
    const few = { ...demand, beside, maxNumSeqs: 2, shrinkToFit: true };
    expect(sizeKvCache(few).numBlocks).toBe(14);
    expect(sizeKvCache({ ...few, availableBytes: 19_500 }).numBlocks).toBe(13);
    expect(sizeKvCache({ ...demand, beside, kvBytes: 20_500 }).numBlocks).toBe(20);
  });

  it("takes no more than all sequences at full length can use", () => {
    expect(sizeKvCache({ ...demand, availableBytes: 1e9 }).numBlocks).toBe(4 * 7);
  });

  it("obeys a size in bytes, and a number of blocks before that", () => {
    expect(sizeKvCache({ ...demand, kvBytes: 9_999, availableBytes: 0 }).numBlocks).toBe(9);
    expect(sizeKvCache({ ...demand, numBlocks: 500, kvBytes: 1 }).numBlocks).toBe(500);
  });

  it("refuses a context that does not fit, and tells the longest that does", () => {
    const message = failure({ availableBytes: 6_500 });
    expect(message).toContain("models's max seq len (100)");
    expect(message).toContain("the estimated maximum model length is 96.");
  });

  it("tells a length that then works", () => {
    for (const availableBytes of [1_000, 2_999, 6_000]) {
      const length = Number(/maximum model length is (\d+)/.exec(failure({ availableBytes }))?.[1]);
      expect(sizeKvCache({ ...demand, availableBytes, maxModelLen: length }).maxModelLen).toBe(
        length,
      );
    }
  });

  it("shrinks the context instead when allowed", () => {
    const size = sizeKvCache({ ...demand, availableBytes: 3_000, shrinkToFit: true });
    expect(size).toEqual({ numBlocks: 3, kvBytes: 3_000, maxModelLen: 48 });
  });

  it("refuses when not one block is left", () => {
    expect(failure({ availableBytes: -5 })).toMatch(/^No available memory for the cache blocks/);
    expect(failure({ kvBytes: 999, shrinkToFit: true })).toContain(
      "`kv_cache_memory_bytes` is 999, and one block takes 1000 bytes.",
    );
  });
});

describe("toGib", () => {
  it("never rounds something to nothing", () => {
    expect(toGib(2 ** 30)).toBe("1.00");
    expect(toGib(2 ** 20)).toBe("0.00098");
    expect(toGib(0)).toBe("0.00");
  });
});
