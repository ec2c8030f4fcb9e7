import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { resolveSparse } from "../../../src/config/sparse-config.js";
import { readExtra } from "../../../src/config/store-extra.js";
import type { UcmError } from "../../../src/errors/index.js";
import { sparseBudget } from "../../../src/sparse/index.js";
import { makeTempFolder } from "../../helpers/temp-folder.js";

type Fields = Record<string, unknown>;

const numLayers = 24;

const resolve = (extra: Fields, blockSize = 128) => resolveSparse(extra, { blockSize, numLayers });

const esa = (settings: Fields, blockSize = 128) =>
  resolve({ ucm_sparse_config: { ESA: settings } }, blockSize)!;

function failure(extra: Fields, blockSize = 128): string {
  try {
    resolve(extra, blockSize);
  } catch (error) {
    expect((error as UcmError).code).toBe("UCM_ERR_USAGE");
    return (error as UcmError).message;
  }
  throw new Error("expected an error");
}

describe("the configuration of ESA", () => {
  it("has UCM's defaults", () => {
    const expected = {
      method: "ESA",
      window: { init: 1, local: 2, minBlocks: 4, ratio: 0.3 },
      stride: 5,
    };
    expect(resolve({ ucm_sparse_method: "ESA" }, 128)).toMatchObject(expected);
    expect(resolve({ ucm_sparse_config: { ESA: {} } }, 16)).toMatchObject(expected);
  });

  it.each([
    {},
    { ucm_sparse_method: null },
    { ucm_sparse_method: "" },
    { ucm_sparse_config: null },
    { ucm_sparse_config: {} },
  ])("is absent with %j", (extra) => {
    expect(resolve(extra, 16)).toBeNull();
  });

  it("takes every key, quoted numbers too", () => {
    const settings = {
      init_window_sz: 2,
      local_window_sz: "3",
      min_blocks: 9,
      sparse_ratio: "0.2",
      retrieval_stride: 10,
      score: "minmax",
      representation_tokens: 32,
      group_reduce: "mean",
      dense_layers: "24",
      next_share: 0,
      drift_cosine: 0.9,
      recall_every: 0,
      wait_ms: 50,
    };
    expect(
      resolve({ ucm_sparse_method: "ESA", ucm_sparse_config: { ESA: settings } }, 128),
    ).toEqual({
      method: "ESA",
      window: { init: 2, local: 3, minBlocks: 9, ratio: 0.2 },
      score: "minmax",
      representationTokens: 32,
      groupReduce: "mean",
      denseLayers: 24,
      stride: 10,
      nextShare: 0,
      driftCosine: 0.9,
      recallEvery: 0,
      waitMs: 50,
    });
  });

  it("comes from UCM_CONFIG_FILE as well", () => {
    const path = join(makeTempFolder(), "ucm.yaml");
    writeFileSync(path, "ucm_sparse_config:\n  ESA:\n    sparse_ratio: 0.2\n    min_blocks: 5\n");
    const extra = readExtra({ kv_connector_extra_config: { UCM_CONFIG_FILE: path } });
    expect(resolve(extra, 128)!.window).toMatchObject({ ratio: 0.2, minBlocks: 5 });
  });

  it.each([
    [8, null],
    [16, 16],
    [32, 32],
    [64, 32],
    [128, 128],
    [256, 128],
  ])("represents as many tokens of a block of %i as it can: %s", (blockSize, tokens) => {
    if (tokens === null) {
      expect(failure({ ucm_sparse_method: "ESA" }, blockSize)).toContain("16 tokens or more");
    } else {
      expect(esa({}, blockSize).representationTokens).toBe(tokens);
    }
  });

  it.each<[Fields, string]>([
    [
      { retrieval_stride: 0 },
      "retrieval_stride must be an integer from 1 to 1000000000, got 0 (default 5)",
    ],
    [{ retrieval_stride: 1.5 }, "an integer from 1 to 1000000000, got 1.5"],
    [{ retrieval_stride: true }, "an integer from 1 to 1000000000, got true"],
    [{ retrieval_stride: null }, "an integer from 1 to 1000000000, got null"],
    [{ retrieval_stride: " " }, 'an integer from 1 to 1000000000, got " "'],
    [{ sparse_ratio: 0 }, "sparse_ratio must be a number above 0 and at most 1, got 0"],
    [{ sparse_ratio: 1.01 }, "above 0 and at most 1, got 1.01"],
    [{ sparse_ratio: -0.3 }, "above 0 and at most 1, got -0.3"],
    [{ sparse_ratio: "much" }, 'above 0 and at most 1, got "much"'],
    [{ sparse_ratio: [0.3] }, "above 0 and at most 1, got [0.3]"],
    [{ init_window_sz: -1 }, "init_window_sz must be an integer of 0 or more, got -1"],
    [{ local_window_sz: 0 }, "local_window_sz must be an integer of 1 or more, got 0"],
    [{ min_blocks: 2 }, "at least init_window_sz + local_window_sz = 3, got 2"],
    [{ min_blocks: 4, init_window_sz: 3 }, "at least init_window_sz + local_window_sz = 5, got 4"],
    [{ score: "median" }, "'mean', 'minmax', 'cuboid', 'random' or 'oracle', got \"median\""],
    [{ representation_tokens: 64 }, "0, 16, 32 or 128, got 64"],
    [{ group_reduce: "sum" }, "'max' or 'mean', got \"sum\""],
    [{ dense_layers: -1 }, "dense_layers must be an integer of 0 or more, got -1 (default 0)"],
    [
      { dense_layers: 25 },
      "dense_layers must be an integer from 0 to 24, the layers of the model, got 25",
    ],
    [{ next_share: -1 }, "a number from 0 to 1, got -1"],
    [{ drift_cosine: 2 }, "a number from 0 to 1, got 2"],
    [{ retrieval_stride: 1e10 }, "an integer from 1 to 1000000000, got 10000000000"],
    [{ recall_every: -1 }, "an integer from 0 to 1000000000, got -1"],
    [{ recall_every: 1e10 }, "an integer from 0 to 1000000000, got 10000000000"],
    [{ wait_ms: 1e9 }, "an integer from 0 to 600000, got 1000000000"],
    [{ sparse_ration: 0.3 }, "unknown key 'sparse_ration'; did you mean 'sparse_ratio'?"],
    [{ top_k: 3 }, "ucm_sparse_config.ESA has an unknown key 'top_k'"],
  ])("refuses %j", (settings, message) => {
    expect(failure({ ucm_sparse_config: { ESA: settings } })).toContain(message);
  });

  it.each<[Fields, string]>([
    [{ ucm_sparse_method: "ESSA" }, "'ESSA' is not known; did you mean 'ESA'?; known is ESA"],
    [{ ucm_sparse_method: "toString" }, "'toString' is not known"],
    [{ ucm_sparse_config: { GSA: {} } }, "'GSA' is not known"],
    [{ ucm_sparse_method: 3 }, 'the name of a method, such as "ESA", got 3'],
    [{ ucm_sparse_config: [] }, "one method and its keys"],
    [{ ucm_sparse_config: "ESA" }, "one method and its keys"],
    [{ ucm_sparse_config: { ESA: {}, GSA: {} } }, "one method and its keys"],
    [{ ucm_sparse_config: { ESA: 3 } }, "must be an object of keys, got 3"],
    [
      { ucm_sparse_method: "GSA", ucm_sparse_config: { ESA: {} } },
      "ucm_sparse_method is 'GSA', but ucm_sparse_config is of 'ESA'",
    ],
  ])("refuses %j", (extra, message) => {
    expect(failure(extra)).toContain(message);
  });

  it("refuses representations that a block is no multiple of", () => {
    const extra = { ucm_sparse_config: { ESA: { representation_tokens: 32 } } };
    expect(failure(extra, 16)).toContain("must divide --block-size 16, got 32");
  });
});

describe("what ESA keeps of a prompt", () => {
  /** UCM's numbers: prompt tokens, ratio, candidates, chosen, slots with one token of output, blocks. */
  it.each([
    [512, 0.3, 1, 0, 385, 4],
    [4096, 0.3, 29, 8, 1409, 12],
    [4100, 0.3, 30, 9, 1413, 12],
    [8192, 0.3, 61, 18, 2689, 22],
    [16000, 0.3, 122, 36, 4993, 40],
    [32000, 0.3, 247, 74, 9857, 78],
    [4096, 0.2, 29, 5, 1025, 9],
    [16000, 0.2, 122, 24, 3457, 28],
    [32000, 0.2, 247, 49, 6657, 53],
  ])("%i tokens at %f: of %i it chooses %i", (tokens, ratio, candidates, topK, slots, blocks) => {
    const budget = sparseBudget(esa({ sparse_ratio: ratio }), tokens, 128)!;
    expect(budget).toEqual({ init: 1, candidates, topK });
    const keptTokens = tokens - (candidates - topK) * 128 + 1;
    expect(keptTokens).toBe(slots);
    expect(Math.ceil(keptTokens / 128)).toBe(blocks);
  });

  it("is all of a short one, and all when nothing would leave", () => {
    expect(sparseBudget(esa({}), 511, 128)).toBeNull();
    expect(sparseBudget(esa({}), 512, 128)).not.toBeNull();
    expect(sparseBudget(esa({ sparse_ratio: 1 }), 32000, 128)).toBeNull();
    expect(sparseBudget(esa({ min_blocks: 3 }), 384, 128)).toBeNull();
  });

  it("never has a block among the candidates that is not full", () => {
    for (let tokens = 1; tokens < 2000; tokens++) {
      const budget = sparseBudget(esa({ local_window_sz: 1, min_blocks: 2 }, 16), tokens, 16);
      if (budget !== null) expect((budget.init + budget.candidates) * 16).toBeLessThan(tokens);
    }
  });
});
