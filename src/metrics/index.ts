export type { HttpRecord } from "./http-metrics.js";
export { uncountedPaths } from "./http-metrics.js";
export type * from "./observations.js";
export { ServingMetrics, type ServingMetricsOptions } from "./serving-metrics.js";
export { storeSeries } from "./store-metrics.js";
