export { type BlockHashChain, BlockHasher } from "./block-hash.js";
export { Connector } from "./connector.js";
