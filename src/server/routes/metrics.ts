import type { FastifyInstance } from "fastify";
import { type ServingMetrics, uncountedPaths } from "../../metrics/index.js";

/** GET /metrics in Prometheus' text format, open without an API key; counts all other requests. */
export function registerMetrics(app: FastifyInstance, metrics: ServingMetrics): void {
  app.addHook("onResponse", async (request, reply) => {
    const { url } = request.routeOptions;
    if (url !== undefined && uncountedPaths.has(url)) return;
    metrics.observeHttp({
      handler: url ?? "none",
      method: request.method,
      status: reply.statusCode,
      durationMs: reply.elapsedTime,
      requestBytes: Number(request.headers["content-length"] ?? 0),
      responseBytes: Number(reply.getHeader("content-length") ?? 0),
    });
  });
  app.get("/metrics", { config: { isPublic: true } }, async (_request, reply) => {
    reply.header("content-type", metrics.contentType);
    return metrics.render();
  });
}
