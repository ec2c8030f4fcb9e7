import { z } from "zod";
import { checkTemplateRequest, type TemplateRequest, templateFields } from "./chat-request.js";
import { bool, string, tokenIds } from "./fields.js";
import { parseBody } from "./validation-error.js";

const commonFields = {
  model: string().nullish(),
  add_special_tokens: bool().nullish(),
  return_token_strs: bool().nullish(),
};

export const tokenizeTextSchema = z.object({ ...commonFields, prompt: string() });
export const tokenizeChatSchema = z.object({ ...commonFields, ...templateFields });

/** Tokens of one /detokenize body at most: above any context. */
const MAX_DETOKENIZED = 1 << 24;

export const detokenizeSchema = z.object({
  model: string().nullish(),
  tokens: tokenIds(MAX_DETOKENIZED),
});

/** A body of POST /tokenize: text, or messages to be rendered first. */
export interface TokenizeRequest {
  model: string | null;
  source: { prompt: string } | { chat: TemplateRequest };
  /** True for text and false for messages when absent, as in vLLM. */
  addSpecialTokens: boolean;
  returnTokenStrings: boolean;
}

/** Reads a body of POST /tokenize; a body with `messages` is of the chat form. */
export function parseTokenizeRequest(raw: unknown): TokenizeRequest {
  const isChat = Object(raw).messages !== undefined;
  if (!isChat) {
    const body = parseBody(tokenizeTextSchema, raw);
    return readCommon(body, { prompt: body.prompt }, true);
  }
  const body = parseBody(tokenizeChatSchema, raw);
  checkTemplateRequest(body);
  return readCommon(body, { chat: body }, false);
}

function readCommon(
  body: Omit<z.output<typeof tokenizeTextSchema>, "prompt">,
  source: TokenizeRequest["source"],
  addSpecialTokensDefault: boolean,
): TokenizeRequest {
  return {
    model: body.model ?? null,
    source,
    addSpecialTokens: body.add_special_tokens ?? addSpecialTokensDefault,
    returnTokenStrings: body.return_token_strs ?? false,
  };
}

export function parseDetokenizeRequest(raw: unknown): { model: string | null; tokens: number[] } {
  const body = parseBody(detokenizeSchema, raw);
  return { model: body.model ?? null, tokens: body.tokens };
}
