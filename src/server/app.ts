import cors, { type FastifyCorsOptions } from "@fastify/cors";
import fastify, { type FastifyInstance, type FastifyServerOptions } from "fastify";
import type { EngineConfig } from "../config/engine-config.js";
import type { ServingMetrics } from "../metrics/index.js";
import type { Tokenizer } from "../tokenizer/types.js";
import { registerAccessLog } from "./access-log.js";
import { registerAuth } from "./auth.js";
import { registerBodyParser } from "./body-parser.js";
import type { RouteContext, ServingEngine } from "./context.js";
import { answerBrokenRequest, answerUnroutable, registerErrorReplies } from "./error-replies.js";
import { limitHeaders } from "./header-limit.js";
import { LoadTracker } from "./load-tracker.js";
import { type AppOptions, completeOptions, type ServerOptions } from "./options.js";
import { makeRequestId, registerRequestIdHeaders } from "./request-id.js";
import { registerChatCompletions } from "./routes/chat-completions.js";
import { registerCompletions } from "./routes/completions.js";
import { registerControl, registerDevRoutes } from "./routes/control.js";
import { registerHealth } from "./routes/health.js";
import { registerInfo } from "./routes/info.js";
import { registerMessages } from "./routes/messages.js";
import { registerMetrics } from "./routes/metrics.js";
import { registerResponses } from "./routes/responses.js";
import { registerTokenize } from "./routes/tokenize.js";

export interface AppDependencies {
  engine: ServingEngine;
  /** Null under --skip-tokenizer-init. */
  tokenizer: Tokenizer | null;
  config: EngineConfig;
  options: AppOptions;
  /** Served at /metrics; null leaves the route out. */
  metrics?: ServingMetrics | null;
}

/**
 * The OpenAI-compatible HTTP application. It does not listen: call `listen` or hand its server a
 * socket after `ready`. `close` waits for answers under way; the engine is the caller's to drain.
 */
export function createApp({
  engine,
  tokenizer,
  config,
  options: given,
  metrics = null,
}: AppDependencies): FastifyInstance {
  const options = completeOptions(given);
  const context: RouteContext = { engine, tokenizer, model: config.model, options };
  const app = fastify({
    ...transport(options),
    logger: false,
    bodyLimit: options.bodyLimitBytes,
    keepAliveTimeout: options.keepAliveTimeoutMs,
    requestTimeout: options.requestTimeoutMs,
    routerOptions: { ignoreTrailingSlash: true },
    // The engine refuses what comes while it drains, in the shape of every other error.
    return503OnClosing: false,
    genReqId: makeRequestId,
    clientErrorHandler: answerBrokenRequest,
    frameworkErrors: answerUnroutable,
  });
  limitHeaders(app, options);
  registerBodyParser(app);
  registerErrorReplies(app, options);
  app.register(cors, corsOptions(options.cors));
  // After CORS, so that refusals carry its headers and browsers can read them.
  app.after(() => {
    const tracker = new LoadTracker();
    registerAccessLog(app, options);
    if (options.enableRequestIdHeaders) registerRequestIdHeaders(app);
    registerAuth(app, options.apiKeys);
    if (options.enableServerLoadTracking) tracker.register(app);
    if (metrics !== null) registerMetrics(app, metrics);
    registerCompletions(app, context);
    registerChatCompletions(app, context);
    registerResponses(app, context);
    registerMessages(app, context);
    registerInfo(app, context, tracker);
    registerHealth(app, context);
    registerTokenize(app, context);
    registerControl(app, context);
    if (options.devMode) registerDevRoutes(app, context, config);
  });
  return app;
}

/** TLS, header limits and the root path, which are set before there is any route. */
function transport({ tls, headerLimitBytes, rootPath }: ServerOptions) {
  const limits = { maxHeaderSize: headerLimitBytes };
  const prefix = rootPath.replace(/\/+$/, "");
  return {
    ...(tls === null ? { http: limits } : { https: { ...tls, ...limits } }),
    rewriteUrl: ({ url = "/" }: { url?: string | undefined }) =>
      prefix !== "" && (url.startsWith(`${prefix}/`) || url === prefix)
        ? url.slice(prefix.length) || "/"
        : url,
  } as Pick<FastifyServerOptions, "rewriteUrl">;
}

const anyMethod = ["GET", "HEAD", "PUT", "PATCH", "POST", "DELETE", "OPTIONS"];

function corsOptions({
  origins,
  methods,
  headers,
  credentials,
}: ServerOptions["cors"]): FastifyCorsOptions {
  const anyOrigin = credentials ? true : "*";
  return {
    origin: origins.includes("*") ? anyOrigin : [...origins],
    methods: methods.includes("*") ? anyMethod : [...methods],
    // Without a list, the headers that a preflight asks for are allowed.
    ...(headers.includes("*") ? {} : { allowedHeaders: [...headers] }),
    credentials,
    strictPreflight: false,
  };
}
