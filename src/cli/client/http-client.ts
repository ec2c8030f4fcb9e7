import { Agent as HttpAgent, type IncomingMessage, request as requestHttp } from "node:http";
import { Agent as HttpsAgent, request as requestHttps } from "node:https";
import { UcmError } from "../../errors/index.js";

export interface HttpRequest {
  method?: "GET" | "POST" | "PUT";
  headers?: Readonly<Record<string, string>>;
  /** Sent as JSON. */
  body?: unknown;
  /** Sent as it is, in place of a body. */
  payload?: Buffer;
  signal?: AbortSignal;
  /** Takes any TLS certificate. */
  insecure?: boolean;
}

// Connections are kept, and nothing times out: an answer may be hours of waiting away.
const httpAgent = new HttpAgent({ keepAlive: true, maxSockets: Number.POSITIVE_INFINITY });
const httpsAgent = new HttpsAgent({ keepAlive: true, maxSockets: Number.POSITIVE_INFINITY });

/**
 * Sends a request and resolves with the head of the answer, whatever its status; the body is the
 * caller's to read. UCM_ERR_REMOTE when there is no answer; an abort rejects with the signal's reason.
 */
export function sendRequest(url: string, options: HttpRequest = {}): Promise<IncomingMessage> {
  const target = parseUrl(url);
  const isSecure = target.protocol === "https:";
  const send = isSecure ? requestHttps : requestHttp;
  const payload =
    options.payload ??
    (options.body === undefined ? null : Buffer.from(JSON.stringify(options.body)));
  return new Promise((resolve, reject) => {
    const request = send(target, {
      method: options.method ?? (payload === null ? "GET" : "POST"),
      agent: isSecure ? httpsAgent : httpAgent,
      headers: {
        ...(payload === null
          ? {}
          : { "content-type": "application/json", "content-length": payload.length }),
        ...options.headers,
      },
      ...(options.signal === undefined ? {} : { signal: options.signal }),
      ...(options.insecure === true ? { rejectUnauthorized: false } : {}),
    });
    request.once("response", resolve);
    request.once("error", (error: NodeJS.ErrnoException) =>
      reject(options.signal?.aborted ? options.signal.reason : connectionError(url, error)),
    );
    request.end(payload);
  });
}

function parseUrl(url: string): URL {
  const target = URL.canParse(url) ? new URL(url) : null;
  if (target !== null && /^https?:$/.test(target.protocol)) return target;
  throw new UcmError(
    "UCM_ERR_USAGE",
    `${url} is not an http or https URL. Write it with http:// in front.`,
  );
}

const reasons: Record<string, string> = {
  ECONNREFUSED: "nothing listens there. Start a server with `ucm serve <model>`, or check the URL",
  ENOTFOUND: "the host name is not known",
  ECONNRESET: "the server closed the connection",
  ETIMEDOUT: "the connection timed out",
};

/** A connection that was not made, or broke, as an error for people. */
export function connectionError(url: string, error: NodeJS.ErrnoException): UcmError {
  const reason = reasons[error.code ?? ""] ?? error.message;
  return new UcmError("UCM_ERR_REMOTE", `Cannot reach ${url}: ${reason}.`, { cause: error });
}

/** The whole body as text. */
export async function readBody(response: IncomingMessage): Promise<string> {
  const pieces: Buffer[] = [];
  for await (const piece of response) pieces.push(piece as Buffer);
  return Buffer.concat(pieces).toString("utf8");
}

/** The answer if its status is 2xx; else UCM_ERR_REMOTE with the server's own words. */
export async function expectSuccess(response: IncomingMessage): Promise<IncomingMessage> {
  const status = response.statusCode ?? 0;
  if (status >= 200 && status < 300) return response;
  const text = await readBody(response);
  throw new UcmError("UCM_ERR_REMOTE", `The server answered ${status}: ${errorMessage(text)}`);
}

/** `error.message` of an OpenAI error body, else the start of the body. */
export function errorMessage(text: string): string {
  try {
    const body = JSON.parse(text) as { error?: { message?: unknown } | string; message?: unknown };
    const found =
      typeof body.error === "object" ? body.error.message : (body.error ?? body.message);
    if (typeof found === "string") return found;
  } catch {
    // Not JSON: a proxy's page, or nothing.
  }
  return text.trim() === "" ? "(no body)" : text.trim().slice(0, 200);
}
