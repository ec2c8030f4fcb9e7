import type { GrammarSpec } from "../messages/index.js";
import { describeInvalid, GrammarError } from "./grammar-errors.js";
import { areExclusive } from "./schema-alternatives.js";
import { innerSchemas, isObject } from "./schema-walk.js";
import { stringFormats } from "./string-formats.js";

/** Keywords that the grammar would leave out of account, so that output could break the schema. */
const unsupportedKeywords = [
  "not",
  "if",
  "then",
  "else",
  "multipleOf",
  "uniqueItems",
  "contains",
  "minContains",
  "maxContains",
  "propertyNames",
  "patternProperties",
  "dependentRequired",
  "dependentSchemas",
  "dependencies",
  "$dynamicRef",
] as const;

/** Keywords that bind an output; beside some others they would be left out of account. */
const bindingKeywords = [
  ...["type", "enum", "const", "$ref", "anyOf", "oneOf", "allOf"],
  ...["properties", "required", "additionalProperties", "unevaluatedProperties"],
  ...["minProperties", "maxProperties", "items", "prefixItems", "unevaluatedItems"],
  ...["additionalItems", "minItems", "maxItems", "minLength", "maxLength", "pattern", "format"],
  ...["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"],
] as const;

/** What may stand beside these; of everything that binds, else nothing. */
const companions: Readonly<Record<string, readonly string[]>> = {
  $ref: [],
  anyOf: ["type"],
  oneOf: ["type"],
  allOf: [],
  enum: ["type"],
  const: ["type"],
};

/** Deeper nesting would overflow the stack of what reads the schema. */
const MAX_DEPTH = 64;

/**
 * Refuses a JSON schema with parts that cannot be enforced, rather than answering what does not fit
 * it. UCM_ERR_INVALID_REQUEST.
 */
export function refuseUnsupportedSchema(spec: GrammarSpec): void {
  if (spec.kind !== "json") return;
  const problem = findProblem(JSON.parse(spec.schema), "#", 0);
  if (problem !== null) throw describeInvalid(spec, new GrammarError(problem));
}

function findProblem(given: unknown, path: string, depth: number, root = given): string | null {
  if (depth > MAX_DEPTH) return `it is nested deeper than ${MAX_DEPTH} levels`;
  if (!isObject(given)) return null;
  const feature = findUnsupported(given, root);
  if (feature !== null) {
    return `The provided JSON schema contains features not supported by xgrammar: ${feature} at ${path}`;
  }
  const { $ref } = given;
  if (typeof $ref === "string" && !$ref.startsWith("#")) {
    return `The provided JSON schema refers to ${$ref} at ${path}, but only references within it, which start with #, can be followed`;
  }
  for (const [name, inner] of innerSchemas(given)) {
    const problem = findProblem(inner, `${path}/${name}`, depth + 1, root);
    if (problem !== null) return problem;
  }
  return null;
}

/** What of a schema cannot be enforced, in words; null when all can. */
function findUnsupported(schema: Record<string, unknown>, root: unknown): string | null {
  const keyword = unsupportedKeywords.find(
    (name) => Object.hasOwn(schema, name) && schema[name] !== false,
  );
  if (keyword !== undefined) return keyword;
  for (const [name, beside] of Object.entries(companions)) {
    if (schema[name] === undefined) continue;
    const other = bindingKeywords.find(
      (one) => one !== name && schema[one] !== undefined && !beside.includes(one),
    );
    if (other !== undefined) return `${name} beside ${other}`;
  }
  const { format, pattern, allOf, oneOf } = schema;
  const hasLength = "minLength" in schema || "maxLength" in schema;
  if (pattern !== undefined && (hasLength || format !== undefined)) {
    return "pattern together with a length or format";
  }
  if (format !== undefined && hasLength) return "format together with a length";
  if (typeof format === "string" && !Object.hasOwn(stringFormats, format)) {
    return `format "${format}"`;
  }
  if (Array.isArray(allOf) && allOf.length > 1) return "allOf with several schemas";
  if (Array.isArray(oneOf) && !areExclusive(oneOf, root)) {
    return "oneOf with alternatives that an output may match together (use anyOf)";
  }
  return null;
}
