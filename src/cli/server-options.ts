import { readFileSync } from "node:fs";
import { UcmError } from "../errors/index.js";
import { type LogLevel, parseLogLevel } from "../log/index.js";
import { reasoningParsers, toolParsers } from "../openai/index.js";
import type { AppOptions } from "../server/index.js";
import type { Flags } from "./flags/index.js";
import { readStructuredOutputsConfig } from "./structured-outputs-config.js";
import { readTls } from "./tls-files.js";

/** The server's part of the flags. */
export function serverOptions(flags: Flags, version: string, env: NodeJS.ProcessEnv): AppOptions {
  const keepAlive = Number(env.VLLM_HTTP_TIMEOUT_KEEP_ALIVE ?? "");
  return {
    version,
    apiKeys: flags.apiKey ?? [],
    cors: {
      origins: flags.allowedOrigins,
      methods: flags.allowedMethods,
      headers: flags.allowedHeaders,
      credentials: flags.allowCredentials,
    },
    enableRequestIdHeaders: flags.enableRequestIdHeaders,
    accessLog: !flags.disableUvicornAccessLog,
    accessLogExcludedPaths: splitPaths(flags.disableAccessLogForEndpoints),
    enableForceIncludeUsage: flags.enableForceIncludeUsage,
    returnTokensAsTokenIds: flags.returnTokensAsTokenIds,
    enableServerLoadTracking: flags.enableServerLoadTracking,
    rootPath: flags.rootPath ?? "",
    tls: readTls(flags),
    headerLimitBytes: flags.h11MaxIncompleteEventSize,
    maxHeaders: flags.h11MaxHeaderCount,
    responseRole: flags.responseRole,
    chatTemplate: readChatTemplate(flags.chatTemplate),
    trustRequestChatTemplate: flags.trustRequestChatTemplate,
    defaultChatTemplateKwargs: flags.defaultChatTemplateKwargs,
    devMode: [env.UCM_SERVER_DEV_MODE, env.VLLM_SERVER_DEV_MODE].includes("1"),
    ...parsingOptions(flags),
    ...(keepAlive > 0 ? { keepAliveTimeoutMs: keepAlive * 1000 } : {}),
  };
}

/** Tool and reasoning parsers. UCM_ERR_CONFIG, in vLLM's words, for those that do not exist. */
function parsingOptions(flags: Flags) {
  const { enableAutoToolChoice, toolCallParser } = flags;
  const structured = readStructuredOutputsConfig(flags.structuredOutputsConfig);
  const reasoningParser = flags.reasoningParser || structured.reasoningParser;
  const requireKnown = (kind: string, name: string, known: object) => {
    if (Object.hasOwn(known, name)) return;
    const choices = Object.keys(known).join(", ");
    throw new UcmError(
      "UCM_ERR_CONFIG",
      `invalid ${kind} parser: ${name} (chose from { ${choices} })`,
    );
  };
  if (enableAutoToolChoice && toolCallParser === null) {
    throw new UcmError(
      "UCM_ERR_CONFIG",
      "Error: --enable-auto-tool-choice requires --tool-call-parser",
    );
  }
  if (toolCallParser !== null) requireKnown("tool call", toolCallParser, toolParsers);
  if (reasoningParser) requireKnown("reasoning", reasoningParser, reasoningParsers);
  return {
    enableAutoToolChoice,
    toolCallParser,
    excludeToolsWhenToolChoiceNone: flags.excludeToolsWhenToolChoiceNone,
    reasoningParser,
    disableAnyWhitespace: structured.disableAnyWhitespace,
  };
}

function splitPaths(text: string | null): string[] {
  return (text ?? "")
    .split(",")
    .map((path) => path.trim())
    .filter((path) => path !== "");
}

/** --chat-template: a file's text, or the template itself when it looks like one. */
export function readChatTemplate(given: string | null): string | null {
  if (given === null) return null;
  try {
    return readFileSync(given, "utf8");
  } catch (cause) {
    if (/[{}\n]/.test(given)) return given.replaceAll("\\n", "\n");
    throw new UcmError(
      "UCM_ERR_CONFIG",
      `The supplied chat template string (${given}) appears path-like, but doesn't exist! Tried: ${given}`,
      { cause, param: "chat-template" },
    );
  }
}

/** --uvicorn-log-level as a level of our log. */
export function serverLogLevel(flags: Flags): LogLevel {
  return parseLogLevel(flags.uvicornLogLevel) ?? "INFO";
}
