import type { ServerResponse } from "node:http";
import { Readable } from "node:stream";
import type { FastifyReply } from "fastify";
import { toUcmError, type UcmError } from "../errors/index.js";
import { errorBody, streamErrorText } from "../openai/index.js";

/** How an API writes the events of a stream. */
export interface EventFormat<Part> {
  part(part: Part): string;
  error(error: UcmError): string;
  /** After the last part, whatever it was. */
  end: string;
}

/** Completions and chat: data alone, and a mark at the end. */
export const dataEvents: EventFormat<object> = {
  part: (part) => `data: ${JSON.stringify(part)}\n\n`,
  error: (error) => `data: ${streamErrorText(error)}\n\n`,
  end: "data: [DONE]\n\n",
};

/** An event that says what it is. */
export type NamedEvent = Record<string, unknown> & { type: string };

/** Responses and messages: each event has its type as name. */
export const namedEvents: EventFormat<NamedEvent> = {
  part: writeNamed,
  error(error) {
    const { message, type, param } = errorBody(error).error;
    return writeNamed({ type: "error", error: { type, message }, code: type, message, param });
  },
  end: "",
};

function writeNamed(event: NamedEvent): string {
  return `event: ${event.type}\ndata: ${JSON.stringify(event)}\n\n`;
}

/**
 * Answers with server-sent events. The status is sent only when the first part is there, so an
 * error before it is an ordinary error reply; one after it becomes an event of the stream. Parts
 * are asked for as the socket takes them.
 */
export async function replyWithEvents<Part>(
  reply: FastifyReply,
  parts: AsyncGenerator<Part, void>,
  format: EventFormat<Part>,
  { reportError, stallLimitMs }: StreamCare,
): Promise<FastifyReply> {
  const first = await parts.next();
  const guard = new StallGuard(reply.raw, stallLimitMs);
  reply.headers({
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "no-cache",
    "x-accel-buffering": "no",
  });
  return reply.send(Readable.from(guard.watch(eventTexts(first, parts, format, reportError))));
}

/** What a stream needs beside its parts. */
export interface StreamCare {
  reportError(error: UcmError): void;
  /** Time without a byte taken after which the client is given up. */
  stallLimitMs: number;
}

/**
 * Closes the connection of a client that takes nothing any more: its answer would be kept, and its
 * socket held, for as long as it likes.
 */
class StallGuard {
  readonly #socket: ServerResponse;
  readonly #limitMs: number;
  #timer: NodeJS.Timeout | null = null;
  /** A part was given out and another was not asked for yet. */
  #isClientsTurn = false;

  constructor(socket: ServerResponse, limitMs: number) {
    this.#socket = socket;
    this.#limitMs = limitMs;
    socket.once("close", () => clearTimeout(this.#timer ?? undefined));
  }

  /** A part is asked for when there is room for it: the time until then is the client's. */
  async *watch(parts: AsyncGenerator<string, void>): AsyncGenerator<string, void> {
    for await (const part of parts) {
      this.#arm();
      yield part;
      this.#isClientsTurn = false;
    }
    this.#arm();
  }

  /** Starts the time anew; one timer serves all parts of a stream. */
  #arm(): void {
    if (this.#socket.closed) return;
    this.#isClientsTurn = true;
    this.#timer ??= setTimeout(() => this.#expire(), this.#limitMs).unref();
    this.#timer.refresh();
  }

  #expire(): void {
    if (this.#isClientsTurn) this.#socket.destroy();
  }
}

async function* eventTexts<Part>(
  first: IteratorResult<Part, void>,
  parts: AsyncGenerator<Part, void>,
  format: EventFormat<Part>,
  reportError: (error: UcmError) => void,
): AsyncGenerator<string, void> {
  try {
    if (!first.done) yield format.part(first.value);
    for await (const part of parts) yield format.part(part);
  } catch (error) {
    const failure = toUcmError(error);
    reportError(failure);
    yield format.error(failure);
  }
  if (format.end !== "") yield format.end;
}
