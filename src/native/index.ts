export type * from "./dense-types.js";
export { loadNative } from "./load.js";
export type * from "./sparse-types.js";
export type * from "./store-tool-types.js";
export * from "./store-types.js";
export type * from "./types.js";
