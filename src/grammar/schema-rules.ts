import type { GrammarSpec } from "../messages/index.js";
import { describeInvalid, GrammarError } from "./grammar-errors.js";
import { innerSchemas, isObject } from "./schema-walk.js";

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

/** Formats of strings that the grammar knows. */
const supportedFormats = new Set(
  "email date time date-time duration ipv4 ipv6 hostname uuid uri uri-reference uri-template json-pointer relative-json-pointer".split(
    " ",
  ),
);

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

function findProblem(schema: unknown, path: string, depth: number): string | null {
  if (depth > MAX_DEPTH) return `it is nested deeper than ${MAX_DEPTH} levels`;
  if (!isObject(schema)) return null;
  const keyword = unsupportedKeywords.find(
    (name) => Object.hasOwn(schema, name) && schema[name] !== false,
  );
  if (keyword !== undefined) {
    return `The provided JSON schema contains features not supported by xgrammar: ${keyword} at ${path}`;
  }
  const { format, allOf, $ref, pattern } = schema;
  const hasLength = "minLength" in schema || "maxLength" in schema;
  if (pattern !== undefined && (hasLength || format !== undefined)) {
    return `The provided JSON schema contains features not supported by xgrammar: pattern together with a length or format at ${path}`;
  }
  const alternatives = ["anyOf", "oneOf", "allOf"].find((name) => name in schema);
  if (alternatives !== undefined && ("properties" in schema || "required" in schema)) {
    return `The provided JSON schema contains features not supported by xgrammar: ${alternatives} beside properties at ${path}`;
  }
  if (typeof format === "string" && !supportedFormats.has(format)) {
    return `The provided JSON schema contains features not supported by xgrammar: format "${format}" at ${path}`;
  }
  if (Array.isArray(allOf) && allOf.length > 1) {
    return `The provided JSON schema contains features not supported by xgrammar: allOf with several schemas at ${path}`;
  }
  if (typeof $ref === "string" && !$ref.startsWith("#")) {
    return `The provided JSON schema refers to ${$ref} at ${path}, but only references within it, which start with #, can be followed`;
  }
  for (const [name, inner] of innerSchemas(schema)) {
    const problem = findProblem(inner, `${path}/${name}`, depth + 1);
    if (problem !== null) return problem;
  }
  return null;
}
