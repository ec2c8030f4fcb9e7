export { type ErrorCode, errorCodes } from "./codes.js";
export { type SerializedError, toUcmError, UcmError } from "./ucm-error.js";
