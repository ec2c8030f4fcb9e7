import { createHash, timingSafeEqual } from "node:crypto";
import type { FastifyInstance } from "fastify";
import { UcmError } from "../errors/index.js";

/**
 * Guards every route that does not call itself public, unknown ones included, so that a route added
 * later is guarded too. Digests are compared, in constant time: neither the length nor a common
 * prefix of a key can be measured. Anthropic's clients send the key as x-api-key.
 */
export function registerAuth(app: FastifyInstance, apiKeys: readonly string[]): void {
  const digests = apiKeys.filter((key) => key !== "").map(digest);
  if (digests.length === 0) return;
  app.addHook("onRequest", async (request, reply) => {
    if (request.method === "OPTIONS" || request.routeOptions.config.isPublic) return;
    const key = bearerKey(request.headers.authorization ?? "") ?? request.headers["x-api-key"];
    if (typeof key === "string" && isKnown(key, digests)) return;
    reply.header("www-authenticate", "Bearer");
    throw new UcmError(
      "UCM_ERR_UNAUTHORIZED",
      "The API key is missing or wrong. Send a key of this server as 'Authorization: Bearer <key>'.",
    );
  });
}

/** The key of an Authorization header, null for another scheme. */
function bearerKey(header: string): string | null {
  const [, scheme = "", key = ""] = /^(\S*)\s+(.*)$/.exec(header) ?? [];
  return scheme.toLowerCase() === "bearer" ? key : null;
}

function isKnown(key: string, digests: readonly Buffer[]): boolean {
  const given = digest(key);
  // Every digest is compared, so that time does not tell which one matched.
  const matches = digests.map((known) => timingSafeEqual(known, given));
  return matches.includes(true);
}

function digest(key: string): Buffer {
  return createHash("sha256").update(key, "utf8").digest();
}
