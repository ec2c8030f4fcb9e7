import { describe, expect, it } from "vitest";
import {
  bytesPerBlock,
  estimateActivationBytes,
  type KvDemand,
  sizeKvCache,
  toGib,
} from "../../../src/config/kv-size.js";
import { UcmError } from "../../../src/errors/index.js";

const demand: KvDemand = {
  blockSize: 16,
  bytesPerBlock: 1000,
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
