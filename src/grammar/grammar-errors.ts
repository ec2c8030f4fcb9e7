import { UcmError } from "../errors/index.js";
import type { GrammarSpec } from "../messages/index.js";

/** What is wrong with a grammar, in words. Any other error is the fault of what runs it. */
export class GrammarError extends Error {}

/** How vLLM begins to say that a grammar of this kind cannot be used. */
const beginnings: Record<GrammarSpec["kind"], string> = {
  json: "Failed to transform json schema into a grammar",
  json_object: "Failed to transform json schema into a grammar",
  regex: "Failed to transform regex into a grammar",
  choice: "Failed to transform choices into a grammar",
  grammar: "Invalid grammar specification",
  structural_tag: "Invalid structural tag specification",
};

/** The refusal of a grammar: UCM_ERR_INVALID_REQUEST, or UCM_ERR_INTERNAL where it is not at fault. */
export function describeInvalid(spec: GrammarSpec, error: Error): UcmError {
  if (error instanceof UcmError) return error;
  if (!(error instanceof GrammarError)) {
    return new UcmError("UCM_ERR_INTERNAL", `Structured output failed: ${error.message}.`, {
      cause: error,
    });
  }
  return new UcmError("UCM_ERR_INVALID_REQUEST", `${beginnings[spec.kind]}: ${error.message}`, {
    param: "structured_outputs",
    cause: error,
  });
}
