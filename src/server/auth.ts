import { createHash, timingSafeEqual } from "node:crypto";
import type { FastifyInstance } from "fastify";
import { UcmError } from "../errors/index.js";

/**
 * Guards every route that does not call itself public, unknown ones included, so that a route added
 * later is guarded too. Digests are compared, in constant time: neither the length nor a common
 * prefix of a key can be measured.
 */
export function registerAuth(app: FastifyInstance, apiKeys: readonly string[]): void {
  const digests = apiKeys.filter((key) => key !== "").map(digest);
  if (digests.length === 0) return;
  app.addHook("onRequest", async (request, reply) => {
    if (request.method === "OPTIONS" || request.routeOptions.config.isPublic) return;
    if (isAuthorized(request.headers.authorization ?? "", digests)) return;
    reply.header("www-authenticate", "Bearer");
    throw new UcmError(
      "UCM_ERR_UNAUTHORIZED",
      "The API key is missing or wrong. Send a key of this server as 'Authorization: Bearer <key>'.",
    );
  });
}

function isAuthorized(header: string, digests: readonly Buffer[]): boolean {
  const [, scheme = "", key = ""] = /^(\S*)\s+(.*)$/.exec(header) ?? [];
  const given = digest(key);
  // Every digest is compared, so that time does not tell which one matched.
  const matches = digests.map((known) => timingSafeEqual(known, given));
  return scheme.toLowerCase() === "bearer" && matches.includes(true);
}

function digest(key: string): Buffer {
  return createHash("sha256").update(key, "utf8").digest();
}
