import { flagsOf } from "./spec.js";

const http = flagsOf("Frontend", { commands: ["serve"] });
const options = flagsOf("options", { commands: ["serve"] });
const reasoning = flagsOf("StructuredOutputsConfig", { commands: ["serve"] });
const config = flagsOf("VllmConfig", { commands: ["serve"] });
const common = flagsOf("options");
const chat = flagsOf("Frontend");

/** Flags of the HTTP server, and of the command itself, that take effect. */
export const frontendFlags = {
  config: common.string(null, "YAML file with flags under their long names; flags given here win."),
  host: http.string(null, "Address to listen on. Default: all interfaces."),
  port: http.int(8000, "Port to listen on; 0 picks a free one.", { min: 0, max: 65535 }),
  uds: http.string(null, "Unix socket to listen on, in place of host and port."),
  "root-path": http.string(null, "Path before all routes, where a proxy does not take it off."),
  "ssl-certfile": http.string(null, "Certificate in PEM, with its chain: serves HTTPS."),
  "ssl-keyfile": http.string(null, "Key of the certificate, in PEM. Default: in its file."),
  "ssl-ca-certs": http.string(null, "Certificates in PEM that sign those of clients."),
  "ssl-cert-reqs": http.int(0, "Certificates of clients: 0 none, 1 optional, 2 required.", {
    min: 0,
    max: 2,
  }),
  "ssl-ciphers": http.string(null, "Ciphers of TLS, in OpenSSL's notation."),
  "enable-ssl-refresh": http.bool(false, "Use renewed certificate files without a restart."),
  "h11-max-incomplete-event-size": http.int(4_194_304, "Bytes of a request's headers at most.", {
    min: 1024,
  }),
  "h11-max-header-count": http.int(256, "Headers of a request at most.", { min: 1 }),
  "api-key": http.stringList(null, "Keys of which requests must present one as Bearer token.", {
    envTwins: { VLLM_API_KEY: (text) => (text === "" ? null : text) },
  }),
  "allow-credentials": http.bool(false, "CORS: allow credentials."),
  "allowed-origins": http.jsonList(["*"], "CORS: allowed origins, a JSON list."),
  "allowed-methods": http.jsonList(["*"], "CORS: allowed methods, a JSON list."),
  "allowed-headers": http.jsonList(["*"], "CORS: allowed headers, a JSON list."),
  "chat-template": chat.string(null, "Chat template: a file, or the template itself in one line."),
  "default-chat-template-kwargs": http.json(
    {},
    "Variables of the chat template; requests override them.",
  ),
  "trust-request-chat-template": http.bool(false, "Take chat templates from requests."),
  "response-role": http.string("assistant", "Role of chat responses."),
  "enable-auto-tool-choice": http.bool(
    false,
    "Let the model decide whether to call a tool; needs --tool-call-parser.",
  ),
  "tool-call-parser": http.string(
    null,
    "How the model writes tool calls: hermes (also Qwen) or llama3_json.",
  ),
  "exclude-tools-when-tool-choice-none": http.bool(
    false,
    "Leave tools out of the prompt of requests with tool_choice none.",
  ),
  "reasoning-parser": reasoning.string(
    "",
    "Take reasoning out of the text, as the model writes it: qwen3 or deepseek_r1.",
  ),
  "structured-outputs-config": config.json(
    {},
    "JSON of grammars: disable_any_whitespace writes JSON in one piece, reasoning_parser as its own flag.",
  ),
  "enable-server-load-tracking": http.bool(false, "Count requests in flight for /load."),
  "uvicorn-log-level": http.choice(
    ["critical", "error", "warning", "info", "debug", "trace"],
    "info",
    "Level of the server's own lines.",
  ),
  "disable-uvicorn-access-log": http.bool(false, "Print no line per request."),
  "disable-access-log-for-endpoints": http.string(
    null,
    "Paths without access log lines, separated by commas.",
  ),
  "enable-request-id-headers": http.bool(false, "Add X-Request-Id to responses."),
  "enable-force-include-usage": http.bool(false, "Send usage with every stream."),
  "return-tokens-as-token-ids": http.bool(
    false,
    "Write tokens in logprobs as token_id:N, which JSON can always carry.",
  ),
  "disable-log-stats": options.toggle(
    false,
    "Print no throughput line, and leave the engine out of /metrics.",
  ),
  "enable-log-requests": options.bool(false, "Log every request."),
  "enable-log-outputs": http.bool(
    false,
    "Log what was generated as well; needs --enable-log-requests.",
  ),
  "enable-log-deltas": http.bool(
    true,
    "With --enable-log-outputs, log each piece of a streamed answer too.",
  ),
  "max-log-len": http.int(
    null,
    "Characters or token ids of a prompt or output to log at most. Default: all.",
    { min: 0 },
  ),
  "log-format": http.choice(
    ["text", "json"],
    "text",
    "Log lines as vLLM writes them, or a JSON object per line.",
  ),
  "shutdown-timeout": options.float(
    null,
    "Seconds to let running requests finish after SIGTERM; 0 aborts them. Default: as long as they take.",
    { min: 0 },
  ),
} as const;
