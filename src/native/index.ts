export { loadNative } from "./load.js";
export type * from "./types.js";
