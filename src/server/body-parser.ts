import type { FastifyInstance } from "fastify";
import { UcmError } from "../errors/index.js";
import { validationError } from "../openai/index.js";

/**
 * Takes JSON bodies only, whatever a client calls them otherwise is refused in vLLM's words. The
 * body is read as UTF-8 strictly: replacing bad bytes would change a prompt silently.
 */
export function registerBodyParser(app: FastifyInstance): void {
  app.removeAllContentTypeParsers();
  app.addContentTypeParser("*", { parseAs: "buffer" }, (request, body, done) => {
    try {
      requireJsonType(request.headers["content-type"] ?? "");
      done(null, parseJson(body as Buffer));
    } catch (error) {
      done(error as Error);
    }
  });
}

function requireJsonType(contentType: string): void {
  const mediaType = contentType.split(";", 1)[0]?.trim().toLowerCase();
  if (mediaType === "application/json") return;
  throw unsupportedMediaType();
}

export function unsupportedMediaType(): UcmError {
  return new UcmError(
    "UCM_ERR_INVALID_BODY",
    "Unsupported Media Type: Only 'application/json' is allowed",
  );
}

function parseJson(body: Buffer): unknown {
  let text: string;
  try {
    text = new TextDecoder("utf-8", { fatal: true }).decode(body);
  } catch {
    throw jsonError(0, "the body is not valid UTF-8");
  }
  if (text === "") return undefined;
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    const reason = (error as Error).message;
    const position = /at position (\d+)/.exec(reason)?.[1];
    throw jsonError(position === undefined ? text.length : Number(position), reason);
  }
  if (isDeeperThan(value, MAX_DEPTH)) {
    throw jsonError(0, `the body is nested deeper than ${MAX_DEPTH} levels`);
  }
  return value;
}

/** Levels of a body; what looks at it may recurse, and no request needs as many. */
const MAX_DEPTH = 512;

function isDeeperThan(value: unknown, limit: number): boolean {
  let level = [value];
  for (let depth = 0; level.length > 0; depth++) {
    if (depth > limit) return true;
    const next: unknown[] = [];
    for (const one of level) {
      if (typeof one !== "object" || one === null) continue;
      for (const inner of Array.isArray(one) ? one : Object.values(one)) {
        if (typeof inner === "object" && inner !== null) next.push(inner);
      }
    }
    level = next;
  }
  return false;
}

function jsonError(position: number, reason: string): UcmError {
  return validationError([
    {
      type: "json_invalid",
      location: ["body", position],
      message: `JSON decode error: ${reason}`,
      input: {},
    },
  ]);
}
