export { type LogLevel, logLevels, parseLogLevel } from "./level.js";
export {
  configureLog,
  isDebugEnabled,
  log,
  writeChildLine,
  writeServerLine,
} from "./log.js";
