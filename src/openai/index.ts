export { BlockSplitter } from "./blocks.js";
export { type ChatRequest, parseChatRequest, type TemplateRequest } from "./chat-request.js";
export {
  type ChatDelta,
  type ChatStyle,
  chatChoice,
  chatDeltaChunk,
  chatResponse,
  chatRoleChunk,
  chatTextChunk,
  chatUsageChunk,
} from "./chat-response.js";
export type { ChoiceDelta, ResponseHead } from "./choice.js";
export {
  type CompletionRequest,
  type PromptInput,
  parseCompletionRequest,
} from "./completion-request.js";
export {
  CompletionChoiceShaper,
  type CompletionPrompt,
  type CompletionStyle,
  completionChunk,
  completionResponse,
  completionUsageChunk,
} from "./completion-response.js";
export {
  errorBody,
  isServerFault,
  streamErrorText,
  unknownModel,
} from "./error-body.js";
export { promptLogprobs, type TokenText } from "./logprobs.js";
export { parseCountRequest, parseMessagesRequest } from "./messages-request.js";
export {
  contentBlockEvent,
  type MessageHead,
  messageBody,
  messageEnding,
  messageStart,
  messageUsage,
} from "./messages-response.js";
export { modelList } from "./model-list.js";
export * from "./parsers/index.js";
export { requestFields } from "./request-fields.js";
export { invalidRequest } from "./request-rules.js";
export { parseResponsesRequest } from "./responses-request.js";
export { blockEvents, type ResponsesHead, responsesBody } from "./responses-response.js";
export { pickSamplingFields, type SamplingFields } from "./sampling-fields.js";
export { parseDetokenizeRequest, parseTokenizeRequest } from "./tokenize-request.js";
export { shapeUsage, type TokenCounts } from "./usage.js";
export { validationError } from "./validation-error.js";
