import { type FlagTable, idleFlags } from "./spec.js";

const rows: FlagTable = {
  ...idleFlags("Frontend", "accepted", "HTTP and engine are in one process", {
    "disable-frontend-multiprocessing": ["bool", false, true],
  }),
  ...idleFlags("Frontend", "accepted", "/docs, /redoc and /openapi.json are not served", {
    "disable-fastapi-docs": ["bool", false, true],
    "enable-offline-docs": ["bool", false],
  }),
  ...idleFlags(
    "options",
    "accepted",
    "one process serves HTTP",
    { "api-server-count": ["int", null, 1] },
    { "api-server-count": { short: ["-asc"] } },
  ),
  ...idleFlags("Frontend", "accepted", "one process serves HTTP", {
    "data-parallel-supervisor-port": ["int", 9256],
    "dp-supervisor-probe-failure-threshold": ["int", 3],
    "dp-supervisor-probe-interval-s": ["float", 5],
    "dp-supervisor-probe-timeout-s": ["float", 5],
  }),
  ...idleFlags("Frontend", "accepted", "only the OpenAI routes are served", {
    "cohere-format": ["string", "cmd4"],
    "cohere-is-reasoning-model": ["bool", true, false],
    "enable-flash-late-interaction": ["bool", true, false],
    "use-gpu-for-pooling-score": ["bool", false],
  }),
  ...idleFlags("Frontend", "accepted", "logging is set by --log-format and UCM_LOGGING_LEVEL", {
    "log-config-file": "string",
  }),
  ...idleFlags("Frontend", "accepted", "stacks are logged of faults of the server alone", {
    "log-error-stack": ["bool", false],
  }),
  ...idleFlags("options", "accepted", "request logging is off unless --enable-log-requests", {
    "disable-log-requests": ["bool", true],
  }),
  ...idleFlags("options", "accepted", "there is one engine", {
    "aggregate-engine-logging": ["switch", false],
  }),
  ...idleFlags("options", "accepted", "unknown variables are not looked for", {
    "fail-on-environ-validation": ["bool", false],
  }),
  ...idleFlags("Frontend", "accepted", "/tokenizer_info is not served", {
    "enable-tokenizer-info-endpoint": ["bool", false],
  }),
  ...idleFlags("Frontend", "accepted", "usage always carries what is known", {
    "enable-prompt-tokens-details": ["bool", false, true],
  }),
  ...idleFlags("Frontend", "accepted", "times of requests are in /metrics, not in responses", {
    "enable-per-request-metrics": ["bool", false],
  }),
  ...idleFlags("Frontend", "accepted", "responses carry no fingerprint", {
    "fingerprint-mode": ["string", "full", "none"],
    "fingerprint-value": "string",
  }),
  ...idleFlags("Frontend", "accepted", "Python code cannot be loaded", {
    "tool-parser-plugin": ["string", ""],
  }),
  ...idleFlags("Frontend", "accepted", "tools are called by clients, never by the server", {
    "tool-server": "string",
  }),
};

/** Flags of vLLM's HTTP server and of its logging that are taken and have no effect. */
export const acceptedServerFlags: FlagTable = Object.fromEntries(
  Object.entries(rows).map(([name, spec]) => [name, { ...spec, commands: ["serve"] as const }]),
);
