import { randomUUID } from "node:crypto";
import type { IncomingMessage } from "node:http";
import type { FastifyInstance, FastifyRequest } from "fastify";

/** Random, in the form of Python's uuid4().hex. */
export function newId(): string {
  return randomUUID().replaceAll("-", "");
}

/** The id of a request: X-Request-Id when the client sends one, else random. */
export function makeRequestId(raw: IncomingMessage): string {
  return headerId(raw) ?? newId();
}

/** The id that responses are named by: X-Request-Id, else the body's `request_id`, else random. */
export function responseId(request: FastifyRequest, bodyId: string | null | undefined): string {
  return headerId(request.raw) ?? (bodyId || request.id);
}

function headerId(raw: IncomingMessage): string | null {
  const header = raw.headers["x-request-id"];
  const id = Array.isArray(header) ? header[0] : header;
  return id ? id : null;
}

/** Puts X-Request-Id on every response. */
export function registerRequestIdHeaders(app: FastifyInstance): void {
  app.addHook("onRequest", async (request, reply) => {
    reply.header("x-request-id", request.id);
  });
}
