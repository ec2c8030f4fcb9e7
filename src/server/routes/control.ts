import type { FastifyInstance } from "fastify";
import type { EngineConfig } from "../../config/engine-config.js";
import type { RouteContext } from "../context.js";
import { checkResetQuery, parsePauseQuery, parseSleepQuery } from "../control-query.js";

/** POST /pause and /resume, GET /is_paused, as vLLM has them for every generating model. */
export function registerControl(app: FastifyInstance, { engine }: RouteContext): void {
  app.post("/pause", async (request) => {
    const { mode, clearCache } = parsePauseQuery(request.query);
    await engine.pause(mode);
    if (clearCache) engine.resetPrefixCache();
    return { status: "paused" };
  });
  app.post("/resume", async () => {
    engine.resume();
    return { status: "resumed" };
  });
  app.get("/is_paused", async () => ({ is_paused: engine.isPaused }));
}

/**
 * The routes of VLLM_SERVER_DEV_MODE: they act on all clients, so they are for trusted networks.
 * Sleep at level 0 pauses; at level 1 and 2 it ends the workers, whose memory, weights and KV cache, is free
 * until /wake_up starts them again: there is no other memory that a CPU could keep weights in.
 */
export function registerDevRoutes(
  app: FastifyInstance,
  { engine }: RouteContext,
  config: EngineConfig,
): void {
  let isSleeping = false;
  app.post("/reset_prefix_cache", async (request, reply) => {
    checkResetQuery(request.query);
    engine.resetPrefixCache();
    return reply.send();
  });
  for (const url of ["/reset_mm_cache", "/reset_encoder_cache"]) {
    // There is no such cache for text.
    app.post(url, async (_request, reply) => reply.send());
  }
  app.post("/sleep", async (request, reply) => {
    const { level, mode } = parseSleepQuery(request.query);
    if (level === 0) await engine.pause(mode);
    else await engine.sleep(mode);
    isSleeping = true;
    return reply.send();
  });
  app.post("/wake_up", async (_request, reply) => {
    await engine.wakeUp();
    isSleeping = false;
    return reply.send();
  });
  app.get("/is_sleeping", async () => ({ is_sleeping: isSleeping }));
  app.get("/server_info", async (request) => {
    const asText = Object(request.query).config_format !== "json";
    return { vllm_config: asText ? JSON.stringify(config) : config };
  });
}
