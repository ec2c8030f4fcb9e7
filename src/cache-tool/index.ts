export { blocksOf, type ScannedBlock } from "./blocks.js";
export type * from "./protocol.js";
export * from "./report.js";
export { runCacheTool } from "./run-tool.js";
