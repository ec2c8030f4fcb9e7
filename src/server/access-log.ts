import { STATUS_CODES } from "node:http";
import type { FastifyInstance, FastifyRequest } from "fastify";
import type { ServerOptions } from "./options.js";

/**
 * A line per answered request in uvicorn's format, written when the answer starts:
 * `127.0.0.1:34658 - "POST /v1/completions HTTP/1.1" 200 OK`. A request whose client has left
 * before that has no line.
 */
export function registerAccessLog(app: FastifyInstance, options: ServerOptions): void {
  if (!options.accessLog) return;
  const excluded = new Set(options.accessLogExcludedPaths);
  app.addHook("onSend", async (request, reply, payload) => {
    const path = request.url.split("?", 1)[0] ?? "";
    if (!reply.raw.destroyed && !excluded.has(path)) {
      options.writeAccessLine(accessLine(request, reply.statusCode));
    }
    return payload;
  });
}

function accessLine(request: FastifyRequest, status: number): string {
  const { socket, method, httpVersion } = request.raw;
  // A socket of both IP versions writes IPv4 clients as ::ffff:127.0.0.1.
  const address = socket.remoteAddress?.replace(/^::ffff:(?=\d+\.)/, "");
  const client = address === undefined ? "" : `${address}:${socket.remotePort}`;
  const target = request.url.replace(/[^\x21-\x7e]/g, (character) => encodeURIComponent(character));
  return `${client} - "${method} ${target} HTTP/${httpVersion}" ${status} ${STATUS_CODES[status] ?? ""}`;
}
