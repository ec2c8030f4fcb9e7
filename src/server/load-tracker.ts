import type { FastifyInstance } from "fastify";

/** Counts inference requests from their arrival to the end of their answer. */
export class LoadTracker {
  #inFlight = 0;

  /** Requests in flight now. */
  get load(): number {
    return this.#inFlight;
  }

  register(app: FastifyInstance): void {
    app.addHook("onRequest", async (request, reply) => {
      if (!request.routeOptions.config.isInference) return;
      this.#inFlight++;
      reply.raw.once("close", () => {
        this.#inFlight--;
      });
    });
  }
}
