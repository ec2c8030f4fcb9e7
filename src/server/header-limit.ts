import type { FastifyInstance } from "fastify";
import { UcmError } from "../errors/index.js";
import type { ServerOptions } from "./options.js";

/** Refuses requests with too many headers; Node would drop those beyond its limit silently. */
export function limitHeaders(app: FastifyInstance, { maxHeaders }: ServerOptions): void {
  app.server.maxHeadersCount = maxHeaders + 1;
  app.addHook("onRequest", async (request) => {
    const count = request.raw.rawHeaders.length / 2;
    if (count <= maxHeaders) return;
    throw new UcmError(
      "UCM_ERR_HEADERS_TOO_LARGE",
      `The request has more than ${maxHeaders} headers, the most this server takes.`,
    );
  });
}
