import { z } from "zod";
import { templateFields } from "./chat-request.js";
import { int, string, tokenIds } from "./fields.js";
import { samplingFields } from "./sampling-fields.js";

/** Token ids of one prompt at most: above any context. */
const MAX_PROMPT_TOKENS = 1 << 24;

/**
 * A line of an offline prompt file: a prompt in one of three forms, and sampling fields under the
 * names and with the rules of the HTTP API. That exactly one form is given is the reader's to check.
 */
export const offlineRecordSchema = z.object({
  prompt: string().nullish(),
  messages: templateFields.messages.nullish(),
  prompt_token_ids: tokenIds(MAX_PROMPT_TOKENS).nullish(),
  ...samplingFields,
  logprobs: int().nullish(),
});

export type OfflineRecord = z.output<typeof offlineRecordSchema>;
