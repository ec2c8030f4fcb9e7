export { loadTokenizer } from "./load.js";
export { writeByteLevel } from "./token-bytes.js";
export type * from "./types.js";
