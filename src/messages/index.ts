export * from "./sampling-params.js";
export * from "./worker-messages.js";
