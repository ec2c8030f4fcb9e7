import { Readable } from "node:stream";
import type { FastifyReply } from "fastify";
import { toUcmError, type UcmError } from "../errors/index.js";
import { streamErrorText } from "../openai/index.js";

/**
 * Answers with server-sent events. The status is sent only when the first part is there, so an
 * error before it is an ordinary error reply; one after it becomes an event of the stream. Parts
 * are asked for as the socket takes them.
 */
export async function replyWithEvents(
  reply: FastifyReply,
  parts: AsyncGenerator<object, void>,
  reportError: (error: UcmError) => void,
): Promise<FastifyReply> {
  const first = await parts.next();
  reply.headers({
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "no-cache",
    "x-accel-buffering": "no",
  });
  return reply.send(Readable.from(eventTexts(first, parts, reportError)));
}

async function* eventTexts(
  first: IteratorResult<object, void>,
  parts: AsyncGenerator<object, void>,
  reportError: (error: UcmError) => void,
): AsyncGenerator<string, void> {
  try {
    if (!first.done) yield event(JSON.stringify(first.value));
    for await (const part of parts) yield event(JSON.stringify(part));
  } catch (error) {
    const failure = toUcmError(error);
    reportError(failure);
    yield event(streamErrorText(failure));
  }
  yield event("[DONE]");
}

function event(data: string): string {
  return `data: ${data}\n\n`;
}
