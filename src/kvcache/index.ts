export { type BlockHashChain, BlockHasher } from "./block-hash.js";
export { Connector } from "./connector.js";
export { mergeRankNews, noPartialNews, type PartialNews } from "./rank-news.js";
