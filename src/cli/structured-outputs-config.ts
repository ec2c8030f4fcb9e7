import { nearestName } from "../config/nearest-name.js";
import { UcmError } from "../errors/index.js";

/** What --structured-outputs-config asks for. */
export interface StructuredOutputsConfig {
  /** JSON of every grammar is written without white space that means nothing. */
  disableAnyWhitespace: boolean;
  /** Null when it names none. */
  reasoningParser: string | null;
}

/** Values that change nothing, by key; null takes any. */
const harmless: Record<string, readonly unknown[] | null> = {
  backend: ["auto", "xgrammar"],
  disable_fallback: null,
  disable_any_whitespace: [true, false],
  disable_additional_properties: [false],
  enable_in_reasoning: [false],
  reasoning_parser: null,
  reasoning_parser_plugin: [""],
};

/**
 * Reads --structured-outputs-config under vLLM's keys. UCM_ERR_CONFIG for an unknown key, and for a value
 * that asks for what xgrammar does not do here.
 */
export function readStructuredOutputsConfig(
  given: Readonly<Record<string, unknown>>,
): StructuredOutputsConfig {
  for (const [key, value] of Object.entries(given)) {
    const known = Object.hasOwn(harmless, key);
    const near = nearestName(key, Object.keys(harmless));
    if (!known)
      throw refuse(`unknown key '${key}'${near === null ? "" : `. Did you mean ${near}?`}`);
    const values = harmless[key];
    if (values == null || values.includes(value)) continue;
    const choices = values.map((one) => JSON.stringify(one)).join(" or ");
    throw refuse(`${key} must be ${choices}, got ${JSON.stringify(value)}`);
  }
  const { disable_any_whitespace, reasoning_parser } = given;
  return {
    disableAnyWhitespace: disable_any_whitespace === true,
    reasoningParser: reasoning_parser ? String(reasoning_parser) : null,
  };
}

function refuse(reason: string): UcmError {
  return new UcmError("UCM_ERR_CONFIG", `argument --structured-outputs-config: ${reason}`);
}
