import { describe, expect, it } from "vitest";
import { estimateWeightBytes, loadModelConfig } from "../../../src/model/index.js";
import { makeFolder, tinyConfig } from "../../helpers/checkpoint.js";

const load = (config: unknown, overrides = {}) =>
  loadModelConfig(
    makeFolder({ "config.json": typeof config === "string" ? config : JSON.stringify(config) }),
    overrides,
  );

const failure = (config: unknown) => {
  try {
    load(config);
  } catch (error) {
    return error as { code: string; message: string };
  }
  throw new Error("the config was accepted");
};

describe("loadModelConfig", () => {
  it("fills in the defaults of each architecture", () => {
    expect(load(tinyConfig)).toMatchObject({
      headDim: 32,
      numKvHeads: 2,
      qkvBias: true,
      outputBias: false,
      qkNorm: false,
      dtype: "float32",
      eosTokenIds: [1],
    });
    expect(load({ ...tinyConfig, architectures: ["Qwen3ForCausalLM"] })).toMatchObject({
      headDim: 128,
      qkvBias: false,
      qkNorm: true,
    });
    const llama = { ...tinyConfig, architectures: ["LlamaForCausalLM"], attention_bias: true };
    expect(load(llama)).toMatchObject({ qkvBias: true, outputBias: true, mlpBias: false });
    expect(load({ ...tinyConfig, architectures: ["MistralForCausalLM"] })).toMatchObject({
      qkvBias: false,
    });
  });

  it("reads rope settings of both config generations", () => {
    const yarn = { rope_type: "yarn", factor: 4, original_max_position_embeddings: 1024 };
    const old = load({ ...tinyConfig, rope_theta: 5e5, rope_scaling: yarn });
    const recent = load({
      ...tinyConfig,
      rope_theta: undefined,
      rope_parameters: { ...yarn, rope_theta: 5e5 },
    });
    expect(recent).toEqual(old);
    expect(old.maxPositionEmbeddings).toBe(4096);
    expect(
      load({ ...tinyConfig, rope_scaling: { type: "linear", factor: 2 } }).maxPositionEmbeddings,
    ).toBe(4096);
  });

  it("caps the context at an active sliding window", () => {
    const mistral = { ...tinyConfig, architectures: ["MistralForCausalLM"], sliding_window: 512 };
    expect(load(mistral).maxPositionEmbeddings).toBe(512);
    expect(
      load({ ...tinyConfig, sliding_window: 512, use_sliding_window: false }).maxPositionEmbeddings,
    ).toBe(2048);
  });

  it("merges overrides", () => {
    expect(load(tinyConfig, { num_hidden_layers: 7 }).numLayers).toBe(7);
  });

  it.each([
    ["no JSON", '{"a": ', "UCM_ERR_MODEL_CONFIG", /not valid JSON/],
    ["NaN", '{"rms_norm_eps": NaN}', "UCM_ERR_MODEL_CONFIG", /NaN/],
    ["an array", "[]", "UCM_ERR_MODEL_CONFIG", /no JSON object/],
    [
      "a missing field",
      { ...tinyConfig, hidden_size: undefined },
      "UCM_ERR_MODEL_CONFIG",
      /hidden_size/,
    ],
    [
      "a negative count",
      { ...tinyConfig, num_hidden_layers: -1 },
      "UCM_ERR_MODEL_CONFIG",
      /num_hidden_layers/,
    ],
    [
      "heads that do not divide",
      { ...tinyConfig, num_key_value_heads: 3 },
      "UCM_ERR_MODEL_CONFIG",
      /multiple/,
    ],
    [
      "an odd head dimension",
      { ...tinyConfig, head_dim: 36 },
      "UCM_ERR_MODEL_UNSUPPORTED",
      /head dimension 36/,
    ],
    [
      "an unknown architecture",
      { ...tinyConfig, architectures: ["GptForCausalLM"] },
      "UCM_ERR_MODEL_UNSUPPORTED",
      /GptForCausalLM.*Qwen2ForCausalLM/,
    ],
    [
      "an unknown activation",
      { ...tinyConfig, hidden_act: "gelu" },
      "UCM_ERR_MODEL_UNSUPPORTED",
      /gelu/,
    ],
    [
      "an unknown rope type",
      { ...tinyConfig, rope_scaling: { rope_type: "longrope" } },
      "UCM_ERR_MODEL_UNSUPPORTED",
      /longrope/,
    ],
    [
      "a quantized checkpoint",
      { ...tinyConfig, quantization_config: {} },
      "UCM_ERR_MODEL_UNSUPPORTED",
      /quantized already/,
    ],
    [
      "an unknown dtype",
      { ...tinyConfig, torch_dtype: "float8" },
      "UCM_ERR_MODEL_UNSUPPORTED",
      /float8/,
    ],
  ])("refuses %s", (_, config, code, message) => {
    expect(failure(config)).toMatchObject({ code, message: expect.stringMatching(message) });
  });

  it("names the path of a missing config", () => {
    expect(() => loadModelConfig("/no/such/model")).toThrow(
      /\/no\/such\/model\/config.json \(ENOENT\)/,
    );
  });
});

describe("estimateWeightBytes", () => {
  it("counts matrices in their run-time form", () => {
    const model = load(tinyConfig);
    const perLayer = (128 + 64 + 64) * 128 + 128 * 128 + 3 * 192 * 128;
    const matrices = 2 * perLayer + 96 * 128;
    expect(estimateWeightBytes(model, null)).toBe(matrices * 4);
    expect(estimateWeightBytes(model, "int4")).toBe((matrices * 7) / 8);
    expect(estimateWeightBytes(model, "int8")).toBeGreaterThan(matrices);
    // Three words beside each output, whose rows are short here.
    expect(estimateWeightBytes(model, "int8")).toBeLessThan(matrices * 1.1);
  });
});
