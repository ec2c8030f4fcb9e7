import type { EngineConfig } from "../config/engine-config.js";
import type { Engine } from "../engine/index.js";
import { unknownModel } from "../openai/index.js";
import type { Tokenizer } from "../tokenizer/types.js";
import type { ServerOptions } from "./options.js";

/** What the server needs of an engine. */
export type ServingEngine = Pick<
  Engine,
  | "generate"
  | "failure"
  | "prepare"
  | "isPaused"
  | "pause"
  | "resume"
  | "sleep"
  | "wakeUp"
  | "resetPrefixCache"
>;

/** What every route works with. */
export interface RouteContext {
  readonly engine: ServingEngine;
  /** Null under --skip-tokenizer-init: token ids in and out. */
  readonly tokenizer: Tokenizer | null;
  readonly model: EngineConfig["model"];
  readonly options: ServerOptions;
}

declare module "fastify" {
  interface FastifyContextConfig {
    /** Open without an API key. */
    isPublic?: boolean;
    /** Counts as load while it runs. */
    isInference?: boolean;
  }
}

/** Refuses a model that is not served; absent or empty means the first served name. */
export function requireModel(context: RouteContext, name: string | null | undefined): void {
  if (name && !context.model.servedNames.includes(name)) throw unknownModel(name);
}

/** The name that responses carry. */
export function servedName(context: RouteContext): string {
  return context.model.servedNames[0] ?? context.model.tag;
}
