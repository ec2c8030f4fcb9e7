import type { FastifyInstance } from "fastify";
import { modelList } from "../../openai/index.js";
import type { RouteContext } from "../context.js";
import type { LoadTracker } from "../load-tracker.js";
import { newId } from "../request-id.js";
import { nowSeconds } from "./shared.js";

/** GET /v1/models, /version and /load: what is served, by what, and how busy it is. */
export function registerInfo(
  app: FastifyInstance,
  { model, options }: RouteContext,
  tracker: LoadTracker,
): void {
  const served = { names: model.servedNames, path: model.path, maxModelLen: model.maxModelLen };
  app.get("/v1/models", async () => modelList(served, nowSeconds(), newId));
  app.get("/version", { config: { isPublic: true } }, async () => ({ version: options.version }));
  app.get("/load", { config: { isPublic: true } }, async () => ({ server_load: tracker.load }));
}
