import type { EngineConfig } from "../config/engine-config.js";
import { UcmError } from "../errors/index.js";
import type { Tokenizer } from "../tokenizer/types.js";
import { contextLengthError } from "./context-length.js";
import { invalidField, isTokenId } from "./sampling-checks.js";
import type { GenerateRequest } from "./types.js";

/**
 * Refuses a request that the engine cannot run, whoever prepared it.
 * @throws UcmError UCM_ERR_INVALID_REQUEST, UCM_ERR_CONTEXT_LENGTH or UCM_ERR_TOKENIZER.
 */
export function checkGenerateRequest(
  { promptTokenIds, sampling, cacheSalt, detokenize }: GenerateRequest,
  { model }: EngineConfig,
  tokenizer: Tokenizer | null,
): void {
  if (promptTokenIds.length === 0) throw invalidField("The prompt cannot be empty.", "prompt");
  if (promptTokenIds.length + sampling.maxTokens > model.maxModelLen) {
    throw contextLengthError(model.maxModelLen, sampling.maxTokens, promptTokenIds.length);
  }
  const unknown = promptTokenIds.find((id) => !isTokenId(id, model));
  if (unknown !== undefined) {
    throw invalidField(
      `Token id ${unknown} is out of vocabulary: the prompt's token ids must be integers from 0 to ` +
        `${model.vocabSize - 1}.`,
      "prompt",
    );
  }
  // Text that UTF-8 cannot hold would be hashed as if it were other text, and share its blocks.
  if (cacheSalt !== null && (cacheSalt === "" || hasLoneSurrogate(cacheSalt))) {
    throw invalidField(
      "Parameter 'cache_salt' must be a non-empty string of valid Unicode if provided.",
      "cache_salt",
    );
  }
  if (sampling.stop.length > 0 && !detokenize) {
    throw invalidField(
      "stop strings are only supported when detokenize is True. Set detokenize=True to use stop.",
      "stop",
    );
  }
  if (sampling.grammar !== null && tokenizer === null) {
    throw invalidField(
      "Structured outputs requires a tokenizer so it can't be used with 'skip_tokenizer_init'",
      "structured_outputs",
    );
  }
  if (sampling.grammar !== null && model.eosTokenIds.length === 0) {
    throw invalidField(
      "Structured outputs need a model with an end-of-sequence token, which this one does not have.",
      "structured_outputs",
    );
  }
  if (detokenize && tokenizer === null) {
    throw new UcmError(
      "UCM_ERR_TOKENIZER",
      "The request asks for text, but the model was started with --skip-tokenizer-init. Ask for token " +
        "ids only, or start it with its tokenizer.",
    );
  }
}

function hasLoneSurrogate(text: string): boolean {
  return /\p{Surrogate}/u.test(text);
}
