import { Counter, Histogram, type Registry, Summary } from "prom-client";

/** An answered HTTP request. */
export interface HttpRecord {
  /** The route's path, not the request's; "none" where there is no route. */
  handler: string;
  method: string;
  status: number;
  durationMs: number;
  requestBytes: number;
  responseBytes: number;
}

/** Paths that ask about the server and do not count, as in vLLM. */
export const uncountedPaths: ReadonlySet<string> = new Set([
  ...["/metrics", "/health", "/load", "/ping", "/version", "/server_info"],
]);

/** Series of the HTTP server, under the names that vLLM's have. */
export function createHttpMetrics(registry: Registry): (record: HttpRecord) => void {
  const registers = [registry];
  const requests = new Counter({
    name: "http_requests_total",
    help: "Total number of requests by method, status and handler.",
    labelNames: ["handler", "method", "status"],
    registers,
  });
  const duration = new Histogram({
    name: "http_request_duration_seconds",
    help: "Latency with only few buckets by handler.",
    labelNames: ["handler", "method"],
    buckets: [0.1, 0.5, 1],
    registers,
  });
  const size = (what: "request" | "response") =>
    new Summary({
      name: `http_${what}_size_bytes`,
      help: `Content length of ${what === "request" ? "incoming requests" : "outgoing responses"} by handler.`,
      labelNames: ["handler"],
      percentiles: [],
      registers,
    });
  const requestSize = size("request");
  const responseSize = size("response");
  return ({ handler, method, status, durationMs, requestBytes, responseBytes }) => {
    requests.inc({ handler, method, status: `${Math.floor(status / 100)}xx` });
    duration.observe({ handler, method }, durationMs / 1000);
    requestSize.observe({ handler }, requestBytes);
    responseSize.observe({ handler }, responseBytes);
  };
}
