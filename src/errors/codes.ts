/**
 * The one table of error codes. Each entry gives the process exit code of the command line and the
 * HTTP status and OpenAI error type of the server. A code is stable: scripts may match on it.
 */
export const errorCodes = {
  UCM_ERR_USAGE: { exitCode: 2, httpStatus: 400, type: "BadRequestError" },
  UCM_ERR_CONFIG: { exitCode: 2, httpStatus: 500, type: "InternalServerError" },
  UCM_ERR_MODEL_NOT_FOUND: { exitCode: 2, httpStatus: 404, type: "NotFoundError" },
  UCM_ERR_MODEL_CONFIG: { exitCode: 2, httpStatus: 500, type: "InternalServerError" },
  UCM_ERR_MODEL_UNSUPPORTED: { exitCode: 2, httpStatus: 500, type: "InternalServerError" },
  UCM_ERR_WEIGHTS: { exitCode: 2, httpStatus: 500, type: "InternalServerError" },
  UCM_ERR_TOKENIZER: { exitCode: 2, httpStatus: 400, type: "BadRequestError" },
  UCM_ERR_PROMPT_FILE: { exitCode: 2, httpStatus: 400, type: "BadRequestError" },
  UCM_ERR_OUTPUT_FILE: { exitCode: 2, httpStatus: 500, type: "InternalServerError" },
  UCM_ERR_INVALID_REQUEST: { exitCode: 2, httpStatus: 400, type: "BadRequestError" },
  /** The body is no JSON or does not fit the schema; FastAPI's type, which is the HTTP phrase. */
  UCM_ERR_INVALID_BODY: { exitCode: 2, httpStatus: 400, type: "Bad Request" },
  UCM_ERR_CONTEXT_LENGTH: { exitCode: 2, httpStatus: 400, type: "BadRequestError" },
  UCM_ERR_UNKNOWN_MODEL: { exitCode: 2, httpStatus: 404, type: "NotFoundError" },
  UCM_ERR_UNAUTHORIZED: { exitCode: 2, httpStatus: 401, type: "Unauthorized" },
  UCM_ERR_NOT_FOUND: { exitCode: 2, httpStatus: 404, type: "Not Found" },
  UCM_ERR_METHOD_NOT_ALLOWED: { exitCode: 2, httpStatus: 405, type: "Method Not Allowed" },
  UCM_ERR_BODY_TOO_LARGE: { exitCode: 2, httpStatus: 413, type: "Request Entity Too Large" },
  UCM_ERR_HEADERS_TOO_LARGE: {
    exitCode: 2,
    httpStatus: 431,
    type: "Request Header Fields Too Large",
  },
  UCM_ERR_QUEUE_FULL: { exitCode: 1, httpStatus: 429, type: "TooManyRequests" },
  UCM_ERR_SHUTTING_DOWN: { exitCode: 1, httpStatus: 503, type: "ServiceUnavailable" },
  /** Refused while workers that were lost are replaced; what they were at has failed otherwise. */
  UCM_ERR_RESTARTING: { exitCode: 1, httpStatus: 503, type: "ServiceUnavailable" },
  UCM_ERR_PORT: { exitCode: 2, httpStatus: 500, type: "InternalServerError" },
  UCM_ERR_MEMORY: { exitCode: 2, httpStatus: 500, type: "InternalServerError" },
  UCM_ERR_NATIVE: { exitCode: 1, httpStatus: 500, type: "InternalServerError" },
  UCM_ERR_WORKER: { exitCode: 1, httpStatus: 503, type: "ServiceUnavailable" },
  UCM_ERR_TIMEOUT: { exitCode: 1, httpStatus: 503, type: "ServiceUnavailable" },
  UCM_ERR_KV_LOAD: { exitCode: 1, httpStatus: 500, type: "InternalServerError" },
  /** A server that a client command asks, or the hub, refuses, breaks off or is not there. */
  UCM_ERR_REMOTE: { exitCode: 1, httpStatus: 502, type: "BadGateway" },
  /** The folder given to a tool is missing, cannot be read, or is not a KV cache store's. */
  UCM_ERR_CACHE_FOLDER: { exitCode: 2, httpStatus: 500, type: "InternalServerError" },
  /** The folder went away while a tool was at work on it. */
  UCM_ERR_CACHE_LOST: { exitCode: 1, httpStatus: 500, type: "InternalServerError" },
  /** What is to be removed is in use by a running server. */
  UCM_ERR_CACHE_IN_USE: { exitCode: 1, httpStatus: 500, type: "InternalServerError" },
  UCM_ERR_INTERNAL: { exitCode: 1, httpStatus: 500, type: "InternalServerError" },
} as const satisfies Record<string, ErrorKind>;

interface ErrorKind {
  readonly exitCode: number;
  readonly httpStatus: number;
  /** `error.type` of an OpenAI error body, in vLLM's words. */
  readonly type: string;
}

export type ErrorCode = keyof typeof errorCodes;
