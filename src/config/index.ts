export type { EngineConfig } from "./engine-config.js";
export type { EngineOptions } from "./engine-options.js";
export { toGib } from "./kv-size.js";
export { nearestName } from "./nearest-name.js";
export { resolveEngineConfig } from "./resolve.js";
export { backendFolders } from "./store-config.js";
