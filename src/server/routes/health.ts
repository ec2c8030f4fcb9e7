import type { FastifyInstance } from "fastify";
import type { RouteContext } from "../context.js";

/** GET /health and GET or POST /ping: 200 while the engine lives, 503 after; no body. */
export function registerHealth(app: FastifyInstance, { engine }: RouteContext): void {
  const routes = [
    { url: "/health", method: "GET" },
    { url: "/ping", method: ["GET", "POST"] },
  ] as const;
  for (const { url, method } of routes) {
    app.route({
      url,
      method: [method].flat(),
      config: { isPublic: true },
      handler: async (_request, reply) => {
        reply.code(engine.failure === null ? 200 : 503);
        return reply.send();
      },
    });
  }
}
