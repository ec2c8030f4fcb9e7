import { basename } from "node:path";
import { Chalk } from "chalk";
import { type LogLevel, logLevels, parseLogLevel } from "./level.js";

/** Where lines go; a file descriptor that knows whether it is a terminal. */
export interface LogStream {
  write(text: string): unknown;
  readonly isTTY?: boolean;
}

interface LogSettings {
  /** Shown as `(label pid=N) ` before every physical line; null shows nothing. */
  label: string | null;
  stream: LogStream;
  level: LogLevel;
  /** Level of {@link writeServerLine}. */
  serverLevel: LogLevel;
  /** Lines as vLLM writes them, or one JSON object each. */
  format: "text" | "json";
}

/** UCM_LOGGING_LEVEL, else VLLM_LOGGING_LEVEL, else INFO; an unknown name counts as INFO. */
function levelOfEnvironment(env: NodeJS.ProcessEnv): LogLevel {
  return parseLogLevel(env.UCM_LOGGING_LEVEL ?? env.VLLM_LOGGING_LEVEL ?? "INFO") ?? "INFO";
}

const settings: LogSettings = {
  label: null,
  // VLLM_LOGGING_STREAM takes Python's names of the two.
  stream: /stderr$/.test(process.env.VLLM_LOGGING_STREAM ?? "") ? process.stderr : process.stdout,
  level: levelOfEnvironment(process.env),
  serverLevel: "INFO",
  format: "text",
};

/** Sets the label, stream or level of this process's log; what is not named stays. */
export function configureLog(changes: Partial<LogSettings>): void {
  Object.assign(settings, changes);
}

export function isDebugEnabled(): boolean {
  return logLevels[settings.level] <= logLevels.DEBUG;
}

/**
 * Log lines in vLLM's format, `LEVEL mm-dd HH:MM:SS [file:line] message`, local time. The file is
 * the caller's, so call these directly. A message of several lines repeats the head on each.
 */
export const log = {
  debug: (message: string): void => writeLog("DEBUG", message),
  info: (message: string): void => writeLog("INFO", message),
  warning: (message: string): void => writeLog("WARNING", message),
  error: (message: string): void => writeLog("ERROR", message),
};

/**
 * A line in uvicorn's format, `INFO:     message`, at the start of its line: wrappers wait for
 * "Application startup complete." in exactly this form.
 */
export function writeServerLine(level: LogLevel, message: string): void {
  if (logLevels[level] < logLevels[settings.serverLevel]) return;
  if (settings.format === "json") {
    writeJson({ level, label: settings.label, pid: process.pid, source: "uvicorn", message });
    return;
  }
  settings.stream.write(`${`${level}:`.padEnd(10)}${message}\n`);
}

/** Passes on a line that a child process printed, under the child's label. */
export function writeChildLine(label: string, pid: number, line: string): void {
  if (settings.format === "json") {
    writeJson({ level: "INFO", label, pid, source: "stdout", message: line });
    return;
  }
  settings.stream.write(`${paintHead(`(${label} pid=${pid}) `)}${line}\n`);
}

function writeLog(level: LogLevel, message: string): void {
  if (logLevels[level] < logLevels[settings.level]) return;
  const source = callSite();
  if (settings.format === "json") {
    writeJson({ level, label: settings.label, pid: process.pid, source, message });
    return;
  }
  const label = settings.label === null ? "" : `(${settings.label} pid=${process.pid}) `;
  const prefix = process.env.VLLM_LOGGING_PREFIX ?? "";
  const head = `${paintHead(label)}${prefix}${level} ${formatTime(new Date())} [${source}] `;
  const lines = message.split("\n").map((line) => `${head}${line}\n`);
  settings.stream.write(lines.join(""));
}

/** What a line of the JSON format tells, in this order, after the time. */
interface JsonLine {
  level: LogLevel;
  label: string | null;
  pid: number;
  /** `file:line`, or who wrote it. */
  source: string;
  message: string;
}

function writeJson(line: JsonLine): void {
  settings.stream.write(`${JSON.stringify({ time: new Date().toISOString(), ...line })}\n`);
}

const colours = new Chalk({ level: 1 });

function paintHead(text: string): string {
  const { NO_COLOR: never, VLLM_LOGGING_COLOR: asked } = process.env;
  const wanted = !never && (asked === "1" || (settings.stream.isTTY === true && asked !== "0"));
  return wanted && text !== "" ? colours.cyan(text) : text;
}

function formatTime(date: Date): string {
  const two = (value: number) => String(value).padStart(2, "0");
  const day = `${two(date.getMonth() + 1)}-${two(date.getDate())}`;
  return `${day} ${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`;
}

/** `file:line` of the code that called log.info and its like: the frame above log, writeLog, this. */
function callSite(): string {
  const frame = new Error().stack?.split("\n")[4] ?? "";
  const match = /([^/\\(]+):(\d+):\d+\)?$/.exec(frame);
  return match?.[1] === undefined ? "ucm" : `${basename(match[1])}:${match[2]}`;
}
