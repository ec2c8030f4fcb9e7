export { createGraphBuilder, type GraphBuilder } from "./graph-builder.js";
export { createSession, createTensor, type Session, type Tensor } from "./session.js";
