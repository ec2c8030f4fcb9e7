// A chart of time to first token and decode speed over the length of the prompt, from files of
// test/perf/peers/compare.mjs: ucm dense, ucm with ESA, llama.cpp's best setting, and the machine's roof. Also
// prints how time to first token grows.
//
//   node test/perf/chart.mjs FILE.json… [--out chart.svg]

import { writeFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { drawChart } from "./chart-svg.mjs";
import { bestPeer, medianRoof, mergeFiles, summarize } from "./peers/results.mjs";

/**
 * Least squares of `ms = linear * x + quadratic * x^2` over points `{length, ms}`, x in thousands (1,000) of tokens.
 * Errors are relative, so that short prompts count as much as long ones. `residual` is the root mean square
 * of (fitted - measured) / measured. Needs two lengths or more.
 */
export function fitGrowth(points) {
  // Divided by ms, each point is 1 = linear * a + quadratic * b.
  const terms = points.map(({ length, ms }) => {
    const x = length / 1000;
    return { a: x / ms, b: (x * x) / ms };
  });
  const sum = (f) => terms.reduce((total, term) => total + f(term), 0);
  const [aa, ab, bb] = [sum(({ a }) => a * a), sum(({ a, b }) => a * b), sum(({ b }) => b * b)];
  const [a1, b1] = [sum(({ a }) => a), sum(({ b }) => b)];
  const determinant = aa * bb - ab * ab;
  if (new Set(points.map(({ length }) => length)).size < 2) {
    throw new Error(`growth needs two lengths or more, got ${points.length} points of one`);
  }
  const linear = (a1 * bb - b1 * ab) / determinant;
  const quadratic = (aa * b1 - ab * a1) / determinant;
  const squares = sum(({ a, b }) => (linear * a + quadratic * b - 1) ** 2);
  return { linear, quadratic, residual: Math.sqrt(squares / terms.length) };
}

/** Sizes that the roofs need, of a model's config.json. */
function sizesOf(shape, weightBytes, kvBytes) {
  const headDim = shape.hidden_size / shape.num_attention_heads;
  const kvWidth = headDim * shape.num_key_value_heads;
  const perLayer =
    2 * shape.hidden_size * (shape.hidden_size + kvWidth) +
    3 * shape.hidden_size * shape.intermediate_size;
  return {
    weightBytes,
    layerWeights: perLayer * shape.num_hidden_layers,
    kvBytesPerToken: 2 * kvWidth * shape.num_hidden_layers * kvBytes,
    attentionWidth: shape.hidden_size * shape.num_hidden_layers,
  };
}

/** Bytes of a step, read at the measured bandwidth: all weights, and keys and values of the context. */
export function decodeRoofMs({ weightBytes, kvBytesPerToken }, roof, length) {
  return ((weightBytes + kvBytesPerToken * length) / roof.readBytesPerS) * 1000;
}

/**
 * Operations of a prompt at the measured rates: products of the layers' weights in int8, and causal
 * attention (each token with half of the prompt, on average) in the fastest floating point that was
 * measured. A multiply-add is two.
 */
export function prefillRoofMs({ layerWeights, attentionWidth }, roof, length) {
  const rates = Object.entries(roof).filter(([key]) => key.endsWith("FlopsPerS"));
  const floatRate = Math.max(...rates.map(([, rate]) => rate));
  const denseS = (2 * layerWeights * length) / (roof.int8OpsPerS || floatRate);
  const attentionS = (2 * attentionWidth * length * length) / floatRate;
  return (denseS + attentionS) * 1000;
}

/** The series of both panels: `{name, points: [{length, value}]}`, value in s and tokens per second. */
export function makeSeries(data) {
  const rows = summarize(data).filter(({ batch }) => batch === 1);
  const lengths = [...new Set(rows.map(({ length }) => length))].sort((a, b) => a - b);
  const names = [...new Set(rows.map(({ name }) => name))].filter((name) => name.startsWith("ucm"));
  const toValue = { ttft: (ms) => ms / 1000, decode: (ms) => 1000 / ms };
  const ownSeries = (metric, name) => ({
    name: name === "ucm" ? "ucm, dense" : name,
    points: rows
      .filter((row) => row.name === name && row.metric === metric)
      .map(({ length, ms }) => ({ length, ms, value: toValue[metric](ms) })),
  });
  const peerSeries = (metric) => ({
    name: "llama.cpp, best setting",
    points: lengths.flatMap((length) => {
      const best = bestPeer(rows, String(length), metric);
      return best === null ? [] : [{ length, ms: best.ms, value: toValue[metric](best.ms) }];
    }),
  });
  const facts = data.facts.ucm ?? data.facts["ucm-esa"];
  const roof = medianRoof(data);
  const sizes = sizesOf(data.setup.shape, facts.weightBytes, facts.kvDtype === "float32" ? 4 : 2);
  const roofMs = { ttft: prefillRoofMs, decode: decodeRoofMs };
  const roofSeries = (metric) => ({
    name: "roof",
    points: lengths.map((length) => {
      const ms = roofMs[metric](sizes, roof, length);
      return { length, ms, value: toValue[metric](ms) };
    }),
  });
  const seriesOf = (metric) =>
    [
      ...names.map((name) => ownSeries(metric, name)),
      peerSeries(metric),
      roofSeries(metric),
    ].filter(({ points }) => points.length > 0);
  return { ttft: seriesOf("ttft"), decode: seriesOf("decode") };
}

function main() {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: { out: { type: "string", default: "chart.svg" } },
  });
  if (positionals.length === 0) {
    console.error("usage: node test/perf/chart.mjs FILE.json… [--out chart.svg]");
    process.exit(2);
  }
  const data = mergeFiles(positionals);
  const { ttft, decode } = makeSeries(data);
  const { processor, threads } = data.setup;
  writeFileSync(
    values.out,
    drawChart({
      title: `Qwen2.5-0.5B shape, ${processor}, ${threads} ${threads === 1 ? "thread" : "threads"}`,
      panels: [
        { title: "Time to first token, s", series: ttft, isLogarithmic: true },
        { title: "Decode, tokens per second", series: decode, isLogarithmic: false },
      ],
    }),
  );
  console.log(`wrote ${values.out}`);
  for (const { name, points } of ttft.filter(({ points }) => points.length > 1)) {
    const { linear, quadratic, residual } = fitGrowth(points);
    console.log(
      `${name}: ${linear.toFixed(1)} ms per 1k tokens + ${quadratic.toFixed(2)} ms per (1k tokens)^2, residual ${(100 * residual).toFixed(1)} % over ${points.map(({ length }) => length).join(", ")}`,
    );
  }
}

if (process.argv[1] === import.meta.filename) main();
