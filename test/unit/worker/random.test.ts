import { describe, expect, it } from "vitest";
import { philox4x32, uniform } from "../../../src/worker/random.js";

describe("philox4x32", () => {
  /** From kat_vectors of the authors' Random123 library. */
  it("gives the published answers", () => {
    const ones = 0xffffffff;
    expect(philox4x32([0, 0, 0, 0], [0, 0])).toEqual([
      0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8,
    ]);
    expect(philox4x32([ones, ones, ones, ones], [ones, ones])).toEqual([
      0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd,
    ]);
    expect(
      philox4x32([0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344], [0xa4093822, 0x299f31d0]),
    ).toEqual([0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1]);
  });
});

describe("uniform", () => {
  it("stays in [0, 1) with the moments of a uniform variable", () => {
    const values = Array.from({ length: 50_000 }, (_, i) => uniform(42, null, i));
    expect(Math.min(...values)).toBeGreaterThanOrEqual(0);
    expect(Math.max(...values)).toBeLessThan(1);
    const mean = values.reduce((a, b) => a + b) / values.length;
    const variance = values.reduce((sum, x) => sum + (x - mean) ** 2, 0) / values.length;
    expect(Math.abs(mean - 0.5)).toBeLessThan(0.005);
    expect(Math.abs(variance - 1 / 12)).toBeLessThan(0.002);
    const neighbours = values
      .slice(1)
      .reduce((sum, x, i) => sum + (x - 0.5) * (values[i]! - 0.5), 0);
    expect(Math.abs(neighbours / values.length)).toBeLessThan(0.002);
  });

  it("differs between seeds, streams and draws, and repeats itself", () => {
    const draws: [seed: number, stream: number | null, index: number][] = [
      [0, null, 0],
      [1, null, 0],
      [-1, null, 0],
      [2 ** 32, null, 0],
      [2 ** 53 - 1, null, 0],
      [0, null, 1],
      [0, 0, 0],
      [0, 1, 0],
      [0, 2 ** 32, 0],
    ];
    const values = draws.map((draw) => uniform(...draw));
    expect(new Set(values).size).toBe(draws.length);
    expect(draws.map((draw) => uniform(...draw))).toEqual(values);
  });
});
