import type { FastifyInstance } from "fastify";
import { UcmError } from "../../errors/index.js";
import {
  BlockSplitter,
  blockEvents,
  parseResponsesRequest,
  type ResponsesHead,
  responsesBody,
} from "../../openai/index.js";
import { type ChatRun, startChat } from "../chat-run.js";
import { type RouteContext, requireModel, servedName } from "../context.js";
import { newId } from "../request-id.js";
import { clientSignal } from "../run-generation.js";
import { type NamedEvent, namedEvents, replyWithEvents } from "../sse.js";
import { nowSeconds, streamCare } from "./shared.js";

/** POST /v1/responses, for text: nothing is stored, so no response can be asked for later. */
export function registerResponses(app: FastifyInstance, context: RouteContext): void {
  app.post("/v1/responses", { config: { isInference: true } }, async (request, reply) => {
    const signal = clientSignal(reply);
    const parsed = parseResponsesRequest(request.body);
    requireModel(context, parsed.body.model);
    const id = `resp_${newId()}`;
    const chat = await startChat(context, id, parsed.chat, signal);
    const head = makeHead(context, id, parsed.body);
    if (!parsed.body.stream) return wholeAnswer(head, chat);
    return replyWithEvents(reply, answerEvents(head, chat), namedEvents, streamCare(context, id));
  });
  const refuse = async ({ params }: { params: unknown }) => {
    throw new UcmError(
      "UCM_ERR_NOT_FOUND",
      `Response with id '${Object(params).id}' not found: responses are not stored.`,
    );
  };
  app.get("/v1/responses/:id", refuse);
  app.post("/v1/responses/:id/cancel", refuse);
}

const itemPrefixes = { reasoning: "rs", text: "msg", call: "fc" } as const;

function makeHead(
  context: RouteContext,
  id: string,
  request: ResponsesHead["request"],
): ResponsesHead {
  const ids = new Map<number, string>();
  return {
    id,
    created: nowSeconds(),
    model: servedName(context),
    request,
    itemId({ index, kind }) {
      const known = ids.get(index) ?? `${itemPrefixes[kind]}_${newId()}`;
      ids.set(index, known);
      return known;
    },
  };
}

async function wholeAnswer(head: ResponsesHead, chat: ChatRun) {
  const [delta] = await chat.collect();
  const { blocks } = BlockSplitter.split(delta!.parsed);
  const { counts } = chat.run;
  return responsesBody(head, { blocks, counts, finishReason: delta!.finishReason });
}

async function* answerEvents(head: ResponsesHead, chat: ChatRun): AsyncGenerator<NamedEvent, void> {
  let number = 0;
  const numbered = (event: Record<string, unknown>) =>
    ({ ...event, sequence_number: number++ }) as unknown as NamedEvent;
  const splitter = new BlockSplitter();
  let finishReason: string | null = null;
  let isOpen = false;
  for await (const { delta } of chat.deltas()) {
    if (!isOpen) {
      isOpen = true;
      const response = responsesBody(head, null);
      yield numbered({ type: "response.created", response });
      yield numbered({ type: "response.in_progress", response });
    }
    finishReason = delta.finishReason ?? finishReason;
    for (const event of splitter.push(delta.parsed)) {
      for (const named of blockEvents(head, event)) yield numbered(named);
    }
  }
  for (const event of splitter.finish()) {
    for (const named of blockEvents(head, event)) yield numbered(named);
  }
  const { counts } = chat.run;
  const response = responsesBody(head, { blocks: splitter.blocks, counts, finishReason });
  yield numbered({ type: `response.${response.status}`, response });
}
