import { type MetricName, metricTitles, type ServeMetrics } from "./serve-metrics.js";

const WIDTH = 50;

/** What the report says beside the metrics. */
export interface ReportOptions {
  maxConcurrency: number | null;
  /** Infinity is not shown. */
  requestRate: number;
  selected: readonly MetricName[];
  percentiles: readonly number[];
}

/** vLLM's table, to the column. */
export function renderServeReport(metrics: ServeMetrics, options: ReportOptions): string {
  const { maxConcurrency, requestRate, selected } = options;
  const lines = [
    centre(" Serving Benchmark Result ", "="),
    row("Successful requests:", metrics.completed),
    row("Failed requests:", metrics.failed),
    ...(maxConcurrency === null ? [] : [row("Maximum request concurrency:", maxConcurrency)]),
    ...(requestRate === Number.POSITIVE_INFINITY
      ? []
      : [row("Request rate configured (RPS):", requestRate.toFixed(2))]),
    row("Benchmark duration (s):", metrics.durationS.toFixed(2)),
    row("Total input tokens:", metrics.totalInput),
    row("Total generated tokens:", metrics.totalOutput),
    row("Request throughput (req/s):", metrics.requestThroughput.toFixed(2)),
    ...(metrics.requestGoodput === null
      ? []
      : [row("Request goodput (req/s):", metrics.requestGoodput.toFixed(2))]),
    row("Output token throughput (tok/s):", metrics.outputThroughput.toFixed(2)),
    row("Peak output token throughput (tok/s):", metrics.maxOutputTokensPerS.toFixed(2)),
    row("Peak concurrent requests:", metrics.maxConcurrentRequests.toFixed(2)),
    row("Total token throughput (tok/s):", metrics.totalThroughput.toFixed(2)),
  ];
  for (const metric of Object.keys(metricTitles) as MetricName[]) {
    if (!selected.includes(metric)) continue;
    const { name, title } = metricTitles[metric];
    const { mean, median, percentiles } = metrics.latencies[metric];
    lines.push(
      centre(title, "-"),
      row(`Mean ${name} (ms):`, mean.toFixed(2)),
      row(`Median ${name} (ms):`, median.toFixed(2)),
      ...options.percentiles.map((p) => row(`P${p} ${name} (ms):`, percentiles.get(p)!.toFixed(2))),
    );
  }
  return [...lines, "=".repeat(WIDTH)].join("\n");
}

/** A label and its value in the columns of vLLM's reports. */
export function row(label: string, value: string | number): string {
  return `${label.padEnd(40)} ${String(value).padEnd(10)}`;
}

/** A heading in the middle of a rule; an odd pad goes to the right. */
export function centre(text: string, fill: string): string {
  const pad = Math.max(0, WIDTH - text.length);
  return fill.repeat(Math.floor(pad / 2)) + text + fill.repeat(Math.ceil(pad / 2));
}

/** The result as vLLM saves it, under its keys. */
export function resultOf(metrics: ServeMetrics, options: ReportOptions): Record<string, unknown> {
  const latencies = options.selected.flatMap((name) => {
    const { mean, median, std, percentiles } = metrics.latencies[name];
    return [
      [`mean_${name}_ms`, mean],
      [`median_${name}_ms`, median],
      [`std_${name}_ms`, std],
      ...[...percentiles].map(([p, value]) => [`p${p}_${name}_ms`, value]),
    ];
  });
  return {
    duration: metrics.durationS,
    completed: metrics.completed,
    failed: metrics.failed,
    total_input_tokens: metrics.totalInput,
    total_output_tokens: metrics.totalOutput,
    request_throughput: metrics.requestThroughput,
    request_goodput: metrics.requestGoodput,
    output_throughput: metrics.outputThroughput,
    total_token_throughput: metrics.totalThroughput,
    max_output_tokens_per_s: metrics.maxOutputTokensPerS,
    max_concurrent_requests: metrics.maxConcurrentRequests,
    ...Object.fromEntries(latencies),
  };
}
