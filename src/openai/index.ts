export { type ChatRequest, parseChatRequest, type TemplateRequest } from "./chat-request.js";
export {
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
  type ErrorBody,
  errorBody,
  isServerFault,
  streamErrorText,
  unknownModel,
} from "./error-body.js";
export { promptLogprobs, type TokenScores, type TokenText } from "./logprobs.js";
export { modelList, type ServedModel } from "./model-list.js";
export { type OfflineRecord, offlineRecordSchema } from "./offline-record.js";
export { invalidRequest } from "./request-rules.js";
export { pickSamplingFields, requestLimits, type SamplingFields } from "./sampling-fields.js";
export {
  parseDetokenizeRequest,
  parseTokenizeRequest,
  type TokenizeRequest,
} from "./tokenize-request.js";
export { shapeUsage, type TokenCounts, type Usage } from "./usage.js";
export { parseBody, type ValidationProblem, validationError } from "./validation-error.js";
