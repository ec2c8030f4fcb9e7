import { type ErrorCode, errorCodes } from "./codes.js";

/** How a {@link UcmError} crosses a process boundary. */
export interface SerializedError {
  code: ErrorCode;
  message: string;
  param: string | null;
}

/**
 * An error that a user or operator can act on. The message says what was given, what was expected
 * and what to do; no stack trace is shown for it.
 */
export class UcmError extends Error {
  override readonly name = "UcmError";
  readonly code: ErrorCode;
  /** The request field or flag at fault, where there is one. */
  readonly param: string | null;

  constructor(code: ErrorCode, message: string, options: { param?: string; cause?: unknown } = {}) {
    super(message, { cause: options.cause });
    this.code = code;
    this.param = options.param ?? null;
  }

  get exitCode(): number {
    return errorCodes[this.code].exitCode;
  }

  get httpStatus(): number {
    return errorCodes[this.code].httpStatus;
  }

  get type(): string {
    return errorCodes[this.code].type;
  }

  toJSON(): SerializedError {
    return { code: this.code, message: this.message, param: this.param };
  }

  static fromJSON(error: SerializedError): UcmError {
    const { code, message, param } = error;
    return new UcmError(code, message, param === null ? {} : { param });
  }
}

/**
 * Any thrown value as a {@link UcmError}. An error of the native addon carries its code; what has
 * none becomes UCM_ERR_INTERNAL.
 */
export function toUcmError(error: unknown): UcmError {
  if (error instanceof UcmError) return error;
  if (!(error instanceof Error)) return new UcmError("UCM_ERR_INTERNAL", String(error));
  const { code } = error as NodeJS.ErrnoException;
  const isKnown = code !== undefined && Object.hasOwn(errorCodes, code);
  return new UcmError(isKnown ? (code as ErrorCode) : "UCM_ERR_INTERNAL", error.message, {
    cause: error,
  });
}
