import type { FastifyInstance } from "fastify";
import {
  invalidRequest,
  parseDetokenizeRequest,
  parseTokenizeRequest,
} from "../../openai/index.js";
import { type RouteContext, requireModel } from "../context.js";
import { renderChat, requireTokenizable, requireTokenizer } from "../prompts.js";

/** POST /tokenize and /detokenize. */
export function registerTokenize(app: FastifyInstance, context: RouteContext): void {
  app.post("/tokenize", async (request) => {
    const { model, source, addSpecialTokens, returnTokenStrings } = parseTokenizeRequest(
      request.body,
    );
    requireModel(context, model);
    const tokenizer = requireTokenizer(context);
    const text = "prompt" in source ? source.prompt : renderChat(context, source.chat);
    requireTokenizable(context, text);
    const tokens = tokenizer.encode(text, { addSpecialTokens });
    return {
      count: tokens.length,
      max_model_len: context.model.maxModelLen,
      tokens,
      token_strs: returnTokenStrings ? tokens.map((id) => tokenizer.idToToken(id)) : null,
    };
  });
  app.post("/detokenize", async (request) => {
    const { model, tokens } = parseDetokenizeRequest(request.body);
    requireModel(context, model);
    const tokenizer = requireTokenizer(context);
    const unknown = tokens.find((id) => tokenizer.idToToken(id) === null);
    if (unknown !== undefined) {
      throw invalidRequest(`Token id ${unknown} is out of vocabulary`, "tokens");
    }
    return { prompt: tokenizer.decode(tokens) };
  });
}
