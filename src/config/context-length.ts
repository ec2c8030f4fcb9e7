import { UcmError } from "../errors/index.js";
import { log } from "../log/index.js";

/** Stands for "the largest that fits memory" until the KV cache is sized. */
export const FIT_MEMORY = -1;

/**
 * Tokens of prompt and output together. `asked` null takes what the model was made for; more than
 * that is refused unless VLLM_ALLOW_LONG_MAX_MODEL_LEN is set. Texts are vLLM's.
 */
export function resolveMaxModelLen(
  asked: number | null,
  maxPositionEmbeddings: number,
  env: NodeJS.ProcessEnv,
): number {
  if (asked === null || asked === FIT_MEMORY) return maxPositionEmbeddings;
  if (asked < 1) {
    throw new UcmError(
      "UCM_ERR_USAGE",
      `argument --max-model-len: invalid value: must be at least 1, or auto, got ${asked}`,
    );
  }
  if (asked <= maxPositionEmbeddings) return asked;
  const message = `User-specified max_model_len (${asked}) is greater than the derived max_model_len (max_position_embeddings=${maxPositionEmbeddings} or model_max_length=None in model's config.json).`;
  if (env.VLLM_ALLOW_LONG_MAX_MODEL_LEN === "1") {
    log.warning(`${message} Positions beyond that give poor output.`);
    return asked;
  }
  throw new UcmError(
    "UCM_ERR_CONFIG",
    `${message} To allow overriding this maximum, set the env var VLLM_ALLOW_LONG_MAX_MODEL_LEN=1; positions beyond the maximum give poor output.`,
  );
}
