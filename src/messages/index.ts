export * from "./grammar-spec.js";
export * from "./sampling-params.js";
export * from "./store-messages.js";
export * from "./worker-messages.js";
