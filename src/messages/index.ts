export { isFromWorker } from "./check-reply.js";
export { encodeFrame, FrameReader, MESSAGE_DESCRIPTOR } from "./frames.js";
export * from "./grammar-spec.js";
export * from "./sampling-params.js";
export * from "./sparse-messages.js";
export * from "./store-messages.js";
export * from "./worker-messages.js";
