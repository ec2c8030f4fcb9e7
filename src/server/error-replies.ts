import { METHODS, STATUS_CODES } from "node:http";
import type { Socket } from "node:net";
import type { FastifyError, FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import { type ErrorCode, toUcmError, UcmError } from "../errors/index.js";
import { errorBody, isServerFault } from "../openai/index.js";
import { unsupportedMediaType } from "./body-parser.js";
import type { ServerOptions } from "./options.js";

/** Seconds after which a refused client may try again. */
const retryAfterSeconds: Partial<Record<ErrorCode, number>> = {
  UCM_ERR_QUEUE_FULL: 1,
  UCM_ERR_SHUTTING_DOWN: 5,
  UCM_ERR_RESTARTING: 5,
  UCM_ERR_WORKER: 5,
  UCM_ERR_TIMEOUT: 5,
};

/** Answers errors, unknown routes and wrong methods in OpenAI's shape. */
export function registerErrorReplies(app: FastifyInstance, options: ServerOptions): void {
  app.setErrorHandler((error, request, reply) => {
    sendError(reply, fromFramework(error as FastifyError, options), (fault) =>
      options.reportError(fault, request.id),
    );
  });
  app.setNotFoundHandler((request, reply) => {
    sendError(reply, noSuchRoute(app, request, reply), () => undefined);
  });
}

/** An error of a request that Fastify could not even route, such as a malformed path. */
export function answerUnroutable(
  error: FastifyError,
  _request: FastifyRequest,
  reply: FastifyReply,
): void {
  sendError(reply, new UcmError("UCM_ERR_INVALID_BODY", error.message), () => undefined);
}

/** Answers bytes that are no HTTP request, on the bare socket. */
export function answerBrokenRequest(error: NodeJS.ErrnoException, socket: Socket): void {
  if (error.code === "ECONNRESET" || !socket.writable) {
    socket.destroy();
    return;
  }
  const status = brokenRequestStatus[error.code ?? ""] ?? 400;
  const type = STATUS_CODES[status] ?? "Bad Request";
  const message = `The request is not valid HTTP: ${type}`;
  const body = JSON.stringify({ error: { message, type, param: null, code: status } });
  socket.end(
    `HTTP/1.1 ${status} ${type}\r\ncontent-type: application/json\r\n` +
      `content-length: ${Buffer.byteLength(body)}\r\nconnection: close\r\n\r\n${body}`,
  );
}

const brokenRequestStatus: Record<string, number> = {
  ERR_HTTP_REQUEST_TIMEOUT: 408,
  HPE_HEADER_OVERFLOW: 431,
  HPE_CHUNK_EXTENSIONS_OVERFLOW: 413,
};

function sendError(reply: FastifyReply, error: UcmError, report: (fault: Error) => void): void {
  if (isServerFault(error) && !reply.raw.destroyed) {
    report(error.cause instanceof Error ? error.cause : error);
  }
  const retryAfter = retryAfterSeconds[error.code];
  if (retryAfter !== undefined) reply.header("retry-after", retryAfter);
  // Anthropic's clients look for a type of the whole.
  const isMessages = reply.request.url.startsWith("/v1/messages");
  const body = { ...(isMessages ? { type: "error" } : {}), ...errorBody(error) };
  reply.code(error.httpStatus).type("application/json").send(body);
}

function fromFramework(error: FastifyError, options: ServerOptions): UcmError {
  if (error instanceof UcmError) return error;
  if (error.code === "FST_ERR_CTP_BODY_TOO_LARGE") {
    return new UcmError(
      "UCM_ERR_BODY_TOO_LARGE",
      `The request body is larger than ${options.bodyLimitBytes} bytes, the most this server takes.`,
    );
  }
  if (error.code === "FST_ERR_CTP_INVALID_MEDIA_TYPE") return unsupportedMediaType();
  const status = error.statusCode ?? 500;
  return status >= 400 && status < 500
    ? new UcmError("UCM_ERR_INVALID_BODY", error.message)
    : toUcmError(error);
}

function noSuchRoute(app: FastifyInstance, request: FastifyRequest, reply: FastifyReply): UcmError {
  const url = request.url.split("?", 1)[0] ?? "/";
  const allowed = METHODS.filter((method) => app.hasRoute({ url, method }));
  if (allowed.length === 0) {
    return new UcmError("UCM_ERR_NOT_FOUND", `There is nothing at ${url}.`);
  }
  reply.header("allow", allowed.join(", "));
  return new UcmError(
    "UCM_ERR_METHOD_NOT_ALLOWED",
    `${request.method} is not allowed at ${url}, only ${allowed.join(", ")}.`,
  );
}
