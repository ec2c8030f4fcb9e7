import { z } from "zod";
import { type PauseMode, pauseModes } from "../engine/index.js";
import { bool, int, string } from "../openai/fields.js";
import { invalidRequest } from "../openai/index.js";
import { parseBody } from "../openai/validation-error.js";

const pauseSchema = z.object({
  mode: string().nullish(),
  clear_cache: bool().nullish(),
  wait_for_inflight_requests: bool().nullish(),
});

const sleepSchema = z.object({
  level: int({ min: 0, max: 2 }).nullish(),
  mode: string().nullish(),
});

const resetSchema = z.object({
  reset_running_requests: bool().nullish(),
  reset_external: bool().nullish(),
});

/** The query of POST /pause. */
export function parsePauseQuery(query: unknown): { mode: PauseMode; clearCache: boolean } {
  const { mode, clear_cache, wait_for_inflight_requests } = parseBody(pauseSchema, query);
  const fallback = wait_for_inflight_requests ? "wait" : "abort";
  return { mode: readMode(mode ?? fallback), clearCache: clear_cache ?? true };
}

/** The query of POST /sleep. */
export function parseSleepQuery(
  query: unknown,
): { level: 0; mode: PauseMode } | { level: 1 | 2; mode: Exclude<PauseMode, "keep"> } {
  const { level = 1, mode: given } = parseBody(sleepSchema, query);
  const mode = readMode(given ?? "abort");
  if (level === 0) return { level, mode };
  if (mode !== "keep") return { level: level === 2 ? 2 : 1, mode };
  throw invalidRequest(
    "mode=keep needs the memory that sleep gives back: use level=0, or mode abort or wait.",
    "mode",
  );
}

/** The query of POST /reset_prefix_cache; what the store has outside the arena is not for it. */
export function checkResetQuery(query: unknown): void {
  const { reset_external } = parseBody(resetSchema, query);
  if (!reset_external) return;
  throw invalidRequest(
    "reset_external is not supported: the blocks in the KV cache store stay. Remove them with ucm cache.",
    "reset_external",
  );
}

function readMode(mode: string): PauseMode {
  const known = pauseModes.find((one) => one === mode);
  if (known !== undefined) return known;
  throw invalidRequest(
    `Invalid pause mode: ${mode}. Choose from ${pauseModes.join(", ")}.`,
    "mode",
  );
}
