export { loadNative } from "./load.js";
export * from "./store-types.js";
export type * from "./types.js";
