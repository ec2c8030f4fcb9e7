export { createGraphBuilder, type GraphBuilder } from "./graph-builder.js";
export {
  createSession,
  createTensor,
  runtimeVersion,
  type Session,
  type Tensor,
} from "./session.js";
