export { type BlockHashChain, BlockHasher } from "./block-hash.js";
