import { describe, expect, it } from "vitest";

const load = (name: string) => import(new URL(`../../perf/${name}`, import.meta.url).href);
const { decodeRoofMs, fitGrowth, makeSeries, prefillRoofMs } = await load("chart.mjs");
const { drawChart, niceStep, valueTicks } = await load("chart-svg.mjs");
const { qwen25Half } = await load("shapes.mjs");

describe("growth of time to first token", () => {
  const lengths = [512, 1024, 4096, 16384, 32768];

  it("finds the parts that points were made of", () => {
    const points = lengths.map((length) => {
      const x = length / 1000;
      return { length, ms: 700 * x + 12.5 * x * x };
    });
    const { linear, quadratic, residual } = fitGrowth(points);
    expect(linear).toBeCloseTo(700, 6);
    expect(quadratic).toBeCloseTo(12.5, 6);
    expect(residual).toBeLessThan(1e-9);
  });

  it("names as residual what no such curve explains", () => {
    const points = lengths.map((length, i) => ({ length, ms: length * (i % 2 ? 1.1 : 0.9) }));
    const { residual } = fitGrowth(points);
    expect(residual).toBeGreaterThan(0.05);
    expect(residual).toBeLessThan(0.12);
  });

  it("is exact at two lengths and refuses one", () => {
    const two = fitGrowth([
      { length: 1000, ms: 3 },
      { length: 2000, ms: 8 },
    ]);
    expect(two.linear).toBeCloseTo(2, 9);
    expect(two.quadratic).toBeCloseTo(1, 9);
    expect(() => fitGrowth([{ length: 512, ms: 1 }])).toThrow("two lengths");
  });
});

/** Runs of one length: `ms` by contender and metric. */
function run(length: number, measures: [name: string, metric: string, ms: number][]) {
  return {
    case: String(length),
    length,
    batch: 1,
    contender: "any",
    measures: measures.map(([name, metric, ms]) => ({ name, metric, ms })),
  };
}

const data = {
  setup: { shape: qwen25Half, processor: "A & B", threads: 2 },
  facts: { ucm: { weightBytes: 500e6, kvDtype: "bfloat16" } },
  roofs: [
    {
      threads: 2,
      readBytesPerS: 20e9,
      fp32FlopsPerS: 1e11,
      bf16FlopsPerS: 2e11,
      int8OpsPerS: 9e11,
    },
    {
      threads: 2,
      readBytesPerS: 25e9,
      fp32FlopsPerS: 1e11,
      bf16FlopsPerS: 2e11,
      int8OpsPerS: 9e11,
    },
    {
      threads: 2,
      readBytesPerS: 30e9,
      fp32FlopsPerS: 1e11,
      bf16FlopsPerS: 2e11,
      int8OpsPerS: 9e11,
    },
  ],
  runs: [512, 4096].flatMap((length) =>
    [1, 5, 2].map((factor) =>
      run(length, [
        ["ucm", "ttft", length * factor],
        ["ucm", "decode", 20 * factor],
        ["ucm ESA 0.1", "decode", 10],
        ["llama.cpp Q8_0 flash", "ttft", 4 * length],
        ["llama.cpp Q8_0 plain", "ttft", 3 * length],
      ]),
    ),
  ),
};

describe("series of the chart", () => {
  const { ttft, decode } = makeSeries(data);
  const valuesOf = (series: { name: string; points: { value: number }[] }[], name: string) =>
    series.find((it) => it.name === name)?.points.map(({ value }) => value);

  it("are medians in seconds and tokens per second, with the best setting of the peer", () => {
    expect(valuesOf(ttft, "ucm, dense")).toEqual([1.024, 8.192]);
    expect(valuesOf(decode, "ucm, dense")).toEqual([25, 25]);
    expect(valuesOf(ttft, "llama.cpp, best setting")).toEqual([1.536, 12.288]);
    expect(decode.map(({ name }: { name: string }) => name)).toEqual([
      "ucm, dense",
      "ucm ESA 0.1",
      "roof",
    ]);
  });

  it("have the roof of bytes read and operations done", () => {
    // 12,288 bytes of keys and values per token, and 357.9 million weights in the layers' products.
    const decodeMs = (500e6 + 12_288 * 512) / 25e9;
    expect(valuesOf(decode, "roof")?.[0]).toBeCloseTo(1 / decodeMs, 6);
    const products = (2 * 357_826_560 * 512) / 9e11;
    const attention = (2 * 896 * 24 * 512 * 512) / 2e11;
    expect(valuesOf(ttft, "roof")?.[0]).toBeCloseTo(products + attention, 9);
  });

  it("count products in floating point on a machine without int8 instructions", () => {
    const sizes = { weightBytes: 1e9, kvBytesPerToken: 0, layerWeights: 1e6, attentionWidth: 0 };
    const roof = { threads: 1, readBytesPerS: 1e9, fp32FlopsPerS: 2e9, int8OpsPerS: 0 };
    expect(prefillRoofMs(sizes, roof, 10)).toBeCloseTo(10, 9);
    expect(decodeRoofMs(sizes, roof, 10)).toBeCloseTo(1000, 9);
  });
});

describe("the drawing", () => {
  const { ttft, decode } = makeSeries(data);
  const svg: string = drawChart({
    title: "A & B <1>",
    panels: [
      { title: "Time", series: ttft, isLogarithmic: true },
      { title: "Speed", series: decode, isLogarithmic: false },
    ],
  });

  it("is well-formed, with every series in its panel and once in the legend", () => {
    const opened = [...svg.matchAll(/<([a-z]+)[^>]*?(\/?)>/g)].filter(([, , self]) => self === "");
    const closed = [...svg.matchAll(/<\/([a-z]+)>/g)];
    expect(opened.map(([, tag]) => tag).sort()).toEqual(closed.map(([, tag]) => tag).sort());
    expect(svg).toContain("A &amp; B &lt;1&gt;");
    expect(svg.match(/<polyline/g)).toHaveLength(ttft.length + decode.length);
    expect(svg.match(/>ucm ESA 0\.1<\/text>/g)).toHaveLength(1);
    expect(svg.match(/>roof<\/text>/g)).toHaveLength(1);
    expect(svg).toContain("prefers-color-scheme: dark");
  });

  it("keeps every point inside the picture, higher for greater values", () => {
    const [, width, height] = svg.match(/viewBox="0 0 (\d+) (\d+)"/) ?? [];
    const circles = [...svg.matchAll(/<circle cx="([\d.]+)" cy="([\d.]+)"/g)];
    expect(circles.length).toBeGreaterThan(0);
    for (const [, x, y] of circles) {
      expect(Number(x)).toBeLessThan(Number(width));
      expect(Number(y)).toBeLessThan(Number(height));
    }
    const heights = [
      ...svg.matchAll(/cy="([\d.]+)"[^>]*><title>ucm, dense, (\d+) tokens: [\d.]+/g),
    ];
    const [short, long] = heights.map(([, y]) => Number(y));
    expect(long).toBeLessThan(short!);
  });

  it("has round ticks that enclose the values", () => {
    expect(niceStep(47, 5)).toBe(10);
    expect(valueTicks([3, 47], false)).toEqual([0, 10, 20, 30, 40, 50]);
    expect(valueTicks([0.4, 70], true)).toEqual([0.1, 1, 10, 100]);
  });
});
