import { chatSchema } from "./chat-request.js";
import { completionSchema } from "./completion-request.js";
import { countSchema, messagesSchema } from "./messages-request.js";
import { refusedFields } from "./request-rules.js";
import { responsesSchema } from "./responses-request.js";
import { detokenizeSchema, tokenizeChatSchema, tokenizeTextSchema } from "./tokenize-request.js";

interface BodySchema {
  shape: Record<string, unknown>;
}

const names = (...schemas: BodySchema[]): readonly string[] => [
  ...new Set(schemas.flatMap(({ shape }) => Object.keys(shape))),
];

/** The fields that each route looks at in a body, by path, those that it only refuses included. */
export const requestFields: Readonly<Record<string, readonly string[]>> = {
  "/v1/completions": [...names(completionSchema), ...refusedFields("completion")],
  "/v1/chat/completions": [...names(chatSchema), ...refusedFields("chat")],
  // What a response is asked with beyond its own fields goes through to chat.
  "/v1/responses": [...names(responsesSchema, chatSchema), ...refusedFields("chat")],
  "/v1/messages": names(messagesSchema),
  "/v1/messages/count_tokens": names(countSchema),
  "/tokenize": names(tokenizeTextSchema, tokenizeChatSchema),
  "/detokenize": names(detokenizeSchema),
};
