export { Engine } from "./engine.js";
export type { EngineOptions, EngineStats } from "./engine-options.js";
export { type PauseMode, pauseModes } from "./pause.js";
export { buildSamplingParams, type SamplingFields } from "./sampling.js";
export type { SamplingContext } from "./sampling-checks.js";
export type { SparseReport } from "./sparse-report.js";
export { StoreReports } from "./store-reports.js";
export * from "./types.js";
