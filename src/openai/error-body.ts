import { UcmError } from "../errors/index.js";

/** The body of every refused request, in OpenAI's shape with vLLM's types. */
export interface ErrorBody {
  error: {
    message: string;
    type: string;
    param: string | null;
    /** The HTTP status. */
    code: number;
  };
}

/** Errors of these codes are the server's own affair; their messages are for its log. */
const publicMessages: Partial<Record<UcmError["code"], string>> = {
  UCM_ERR_WORKER: "The model is not available. Try again later.",
  UCM_ERR_TIMEOUT: "The model did not answer in time. Try again later.",
};

/** True when the client must not see the message of `error`, and the log must. */
export function isServerFault(error: UcmError): boolean {
  return error.httpStatus === 500 || error.code in publicMessages;
}

/** Characters. */
const MAX_MESSAGE = 8192;

/** The error as a client may see it. */
export function errorBody(error: UcmError): ErrorBody {
  const message = isServerFault(error)
    ? (publicMessages[error.code] ?? "Internal server error")
    : cut(error.message);
  const param = isServerFault(error) ? null : error.param;
  return { error: { message, type: error.type, param, code: error.httpStatus } };
}

/** Messages repeat what was sent, which may be long. */
function cut(message: string): string {
  return message.length > MAX_MESSAGE ? `${message.slice(0, MAX_MESSAGE)}…` : message;
}

/** An error inside a stream, with the spacing of Python's json.dumps as vLLM writes it. */
export function streamErrorText(error: UcmError): string {
  const { message, type, param, code } = errorBody(error).error;
  const fields = Object.entries({ message, type, param, code });
  const inner = fields.map(([key, value]) => `"${key}": ${JSON.stringify(value)}`).join(", ");
  return `{"error": {${inner}}}`;
}

/** A request for a model that is not served; UCM_ERR_UNKNOWN_MODEL. */
export function unknownModel(name: string): UcmError {
  return new UcmError("UCM_ERR_UNKNOWN_MODEL", `The model \`${name}\` does not exist.`, {
    param: "model",
  });
}
