import { describe, expect, it } from "vitest";
import { loadModelConfig, ropeSpec } from "../../../src/model/index.js";
import { makeFolder, tinyConfig } from "../../helpers/checkpoint.js";

const spec = (fields: object) =>
  ropeSpec(
    loadModelConfig(makeFolder({ "config.json": JSON.stringify({ ...tinyConfig, ...fields }) })),
  );

describe("ropeSpec", () => {
  it("is theta ** (-2i / d) by default", () => {
    const { invFreq, scale } = spec({ rope_theta: 1e6 });
    expect(invFreq.length).toBe(16);
    expect(invFreq[0]).toBe(1);
    expect(invFreq[8]).toBeCloseTo(1e-3, 12);
    expect(scale).toBe(1);
  });

  it("divides every frequency under linear scaling", () => {
    const plain = spec({});
    const linear = spec({ rope_scaling: { type: "linear", factor: 4 } });
    expect([...linear.invFreq]).toEqual([...plain.invFreq].map((f) => f / 4));
  });

  it("keeps short waves and divides long ones under llama3 scaling", () => {
    const plain = spec({ rope_theta: 5e5 });
    const llama3 = spec({
      rope_theta: 5e5,
      rope_scaling: {
        rope_type: "llama3",
        factor: 8,
        low_freq_factor: 1,
        high_freq_factor: 4,
        original_max_position_embeddings: 8192,
      },
    });
    expect(llama3.invFreq[0]).toBe(plain.invFreq[0]);
    expect(llama3.invFreq[15]).toBe(plain.invFreq[15]! / 8);
    const ratios = [...llama3.invFreq].map((f, i) => f / plain.invFreq[i]!);
    expect(ratios).toEqual([...ratios].sort((a, b) => b - a));
  });

  it("keeps short waves, divides long ones and heats attention under yarn", () => {
    const plain = spec({});
    const yarn = spec({
      rope_scaling: { rope_type: "yarn", factor: 4, original_max_position_embeddings: 2048 },
    });
    expect(yarn.invFreq[0]).toBe(plain.invFreq[0]);
    expect(yarn.invFreq[15]).toBeCloseTo(plain.invFreq[15]! / 4, 15);
    expect(yarn.scale).toBeCloseTo(0.1 * Math.log(4) + 1, 12);
    const given = spec({ rope_scaling: { rope_type: "yarn", factor: 4, attention_factor: 0.5 } });
    expect(given.scale).toBe(0.5);
  });
});
