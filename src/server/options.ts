import type { TlsOptions as NodeTlsOptions, SecureContextOptions } from "node:tls";
import { UcmError } from "../errors/index.js";
import { log, writeServerLine } from "../log/index.js";

/** Certificate and key in PEM, and what is asked of clients. */
export type TlsOptions = Pick<
  SecureContextOptions & NodeTlsOptions,
  "cert" | "key" | "ca" | "ciphers" | "requestCert" | "rejectUnauthorized"
>;

/** How the HTTP server behaves; everything that is not the engine's. */
export interface ServerOptions {
  /** Told by GET /version. */
  version: string;
  /** Any of these opens the inference routes; none leaves them open. */
  apiKeys: readonly string[];
  cors: {
    /** `*` is any. */
    origins: readonly string[];
    methods: readonly string[];
    headers: readonly string[];
    credentials: boolean;
  };
  /** Echo or make X-Request-Id on every response. */
  enableRequestIdHeaders: boolean;
  /** A line per request in uvicorn's format. */
  accessLog: boolean;
  /** Paths without such a line. */
  accessLogExcludedPaths: readonly string[];
  /** Send usage with every stream, asked for or not. */
  enableForceIncludeUsage: boolean;
  /** Write tokens in logprobs as `token_id:N` unless the request says otherwise. */
  returnTokensAsTokenIds: boolean;
  /** Count requests in flight for GET /load, which else tells 0. */
  enableServerLoadTracking: boolean;
  /** `message.role` of chat responses. */
  responseRole: string;
  /** Template text that replaces the model's; null keeps the model's. */
  chatTemplate: string | null;
  /** Take `chat_template` from request bodies. */
  trustRequestChatTemplate: boolean;
  /** Template variables that requests may override. */
  defaultChatTemplateKwargs: Readonly<Record<string, unknown>>;
  /** Name of the parser of tool calls that the model makes of its own accord; null finds none. */
  toolCallParser: string | null;
  /** Let the model choose whether to call a tool. */
  enableAutoToolChoice: boolean;
  /** Do not tell the model of tools that it may not use. */
  excludeToolsWhenToolChoiceNone: boolean;
  /** Name of the parser of reasoning; null leaves it in the text. */
  reasoningParser: string | null;
  /** Grammars of JSON allow no white space that means nothing. */
  disableAnyWhitespace: boolean;
  /** Serve the routes that vLLM has under VLLM_SERVER_DEV_MODE: cache resets, sleep, configuration. */
  devMode: boolean;
  /** Largest request body; more is refused with 413. */
  bodyLimitBytes: number;
  /** Largest header section of a request; more is refused with 431. */
  headerLimitBytes: number;
  /** Most headers of a request; more are refused with 431. */
  maxHeaders: number;
  /** Path that may come before every route; empty for none. */
  rootPath: string;
  /** Serves HTTPS; null serves plain HTTP. */
  tls: TlsOptions | null;
  /** Time without a byte taken after which a client that reads a stream is given up. */
  stalledClientTimeoutMs: number;
  /** Silence on an idle connection before it is closed. */
  keepAliveTimeoutMs: number;
  /** Time for a client to send a whole request. */
  requestTimeoutMs: number;
  /** Takes the lines of the access log, without line ends. */
  writeAccessLine: (line: string) => void;
  /** Told of errors whose text the client must not see. */
  reportError: (error: Error, requestId: string) => void;
}

/** vLLM's defaults; keys, limits and timeouts that it does not have are generous. */
export const defaultServerOptions: Readonly<Omit<ServerOptions, "version">> = Object.freeze({
  apiKeys: [],
  cors: { origins: ["*"], methods: ["*"], headers: ["*"], credentials: false },
  enableRequestIdHeaders: false,
  accessLog: true,
  accessLogExcludedPaths: [],
  enableForceIncludeUsage: false,
  returnTokensAsTokenIds: false,
  enableServerLoadTracking: false,
  responseRole: "assistant",
  chatTemplate: null,
  trustRequestChatTemplate: false,
  defaultChatTemplateKwargs: {},
  toolCallParser: null,
  enableAutoToolChoice: false,
  excludeToolsWhenToolChoiceNone: false,
  reasoningParser: null,
  disableAnyWhitespace: false,
  devMode: false,
  bodyLimitBytes: 32 * 1024 * 1024,
  headerLimitBytes: 4 * 1024 * 1024,
  maxHeaders: 256,
  rootPath: "",
  tls: null,
  stalledClientTimeoutMs: 300_000,
  keepAliveTimeoutMs: 5_000,
  requestTimeoutMs: 300_000,
  writeAccessLine: (line: string) => writeServerLine("INFO", line),
  reportError: (error: Error, requestId: string) =>
    log.error(`Request ${requestId} failed: ${describeFault(error)}`),
});

/** A UcmError says all in its message; only a fault of ours needs its stack. */
function describeFault(error: Error): string {
  const isExplained = error instanceof UcmError && error.code !== "UCM_ERR_INTERNAL";
  return isExplained ? error.message : (error.stack ?? error.message);
}

/** What a caller of createApp must or may say. */
export type AppOptions = Partial<ServerOptions> & Pick<ServerOptions, "version">;

export function completeOptions(options: AppOptions): ServerOptions {
  return { ...defaultServerOptions, ...options };
}
