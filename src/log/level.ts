/** Python's logging levels under their names, as VLLM_LOGGING_LEVEL takes them. */
export const logLevels = { DEBUG: 10, INFO: 20, WARNING: 30, ERROR: 40, CRITICAL: 50 } as const;

export type LogLevel = keyof typeof logLevels;

/** The level a name stands for, in any case and with the usual short forms; null when unknown. */
export function parseLogLevel(name: string): LogLevel | null {
  const upper = name.trim().toUpperCase();
  if (upper === "WARN") return "WARNING";
  if (upper === "TRACE") return "DEBUG";
  return upper in logLevels ? (upper as LogLevel) : null;
}
