import { describe, expect, it } from "vitest";
import { formatAge, formatSize, parseDuration, parseSize } from "../../../src/cli/cache/units.js";

describe("sizes", () => {
  it.each([
    ["0", 0],
    ["1073741824", 2 ** 30],
    ["10G", 10 * 2 ** 30],
    ["10GiB", 10 * 2 ** 30],
    ["10gib", null],
    ["1.5TiB", 1.5 * 2 ** 40],
    ["500m", 5e8],
    ["500MB", 5e8],
    ["500 MB", 5e8],
    ["7B", 7],
    ["1.5", null],
    ["7iB", null],
    ["-1G", null],
    ["10X", null],
    ["", null],
    ["G", null],
    ["99999P", null],
  ])("reads %s", (text, bytes) => {
    expect(parseSize(text)).toBe(bytes);
  });

  it("writes them with one decimal from KiB on", () => {
    expect([0, 1023, 1024, 1536, 2 ** 30 * 12.34, 2 ** 60].map(formatSize)).toEqual([
      "0 B",
      "1023 B",
      "1.0 KiB",
      "1.5 KiB",
      "12.3 GiB",
      "1024.0 PiB",
    ]);
  });
});

describe("durations", () => {
  it.each([
    ["90s", 90_000],
    ["30m", 1_800_000],
    ["1h30m", 5_400_000],
    ["7d", 604_800_000],
    ["2w", 1_209_600_000],
    ["0s", 0],
    ["1.5h", 5_400_000],
    ["5", null],
    ["1h 30m", null],
    ["x7d", null],
    ["-7d", null],
    ["", null],
  ])("reads %s", (text, ms) => {
    expect(parseDuration(text)).toBe(ms);
  });

  it("writes the two greatest units", () => {
    const ages = [-5_000, 999, 4_000, 725_000, 3_600_000, 3_605_000, 86_400_000 * 8 + 7_300_000];
    expect(ages.map(formatAge)).toEqual(["now", "now", "4s", "12m 5s", "1h", "1h", "8d 2h"]);
  });
});
