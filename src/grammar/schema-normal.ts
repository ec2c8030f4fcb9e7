import { GrammarError } from "./grammar-errors.js";
import { isObject, mapSchemas } from "./schema-walk.js";

type Schema = Record<string, unknown>;

/** The type that a schema without one is about, by its keywords. */
const impliedTypes: readonly [type: string, keywords: readonly string[]][] = [
  ["object", ["properties", "required", "additionalProperties", "minProperties", "maxProperties"]],
  ["array", ["items", "prefixItems", "minItems", "maxItems"]],
  ["string", ["minLength", "maxLength", "pattern", "format"]],
  ["number", ["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"]],
];

/**
 * The schema in the form that xgrammar follows: with a type where keywords are about one (other types
 * would be valid and are not generated), with every required property, and with those values of an
 * enumeration alone that are of its type. @throws GrammarError when nothing is left.
 */
export function normalizeSchema(schema: unknown): unknown {
  const inner = mapSchemas(schema, normalizeSchema);
  if (!isObject(inner)) return inner;
  return addRequired(keepTyped(pushType(addType(inner))));
}

function addType(schema: Schema): Schema {
  const isOtherwiseBound = ["type", "enum", "const", "$ref", "anyOf", "oneOf", "allOf"].some(
    (keyword) => keyword in schema,
  );
  if (isOtherwiseBound) return schema;
  const implied = impliedTypes.find(([, keywords]) => keywords.some((name) => name in schema));
  return implied === undefined ? schema : { ...schema, type: implied[0] };
}

/** A type beside alternatives is theirs: beside them it would not be looked at. */
function pushType(schema: Schema): Schema {
  const { type, ...rest } = schema;
  const keyword = ["anyOf", "oneOf"].find((name) => Array.isArray(schema[name]));
  if (type === undefined || keyword === undefined) return schema;
  const alternatives = (schema[keyword] as unknown[]).map((alternative) => {
    if (!isObject(alternative) || "$ref" in alternative || "anyOf" in alternative) {
      throw new GrammarError(`type beside ${keyword} with references or further alternatives`);
    }
    if (alternative.type === undefined) return keepTyped({ ...alternative, type });
    if (JSON.stringify(alternative.type) === JSON.stringify(type)) return alternative;
    throw new GrammarError(`type beside ${keyword} with alternatives of other types`);
  });
  return { ...rest, [keyword]: alternatives };
}

function keepTyped(schema: Schema): Schema {
  const types = schema.type === undefined ? null : [schema.type].flat();
  if (types === null) return schema;
  const fits = (value: unknown) => types.some((type) => isOfType(value, String(type)));
  if ("const" in schema && !fits(schema.const)) {
    throw new GrammarError(`const ${JSON.stringify(schema.const)} is not of type ${types.join()}`);
  }
  if (!Array.isArray(schema.enum)) return schema;
  const values = schema.enum.filter(fits);
  if (values.length === 0) throw new GrammarError(`no value of enum is of type ${types.join()}`);
  return { ...schema, enum: values };
}

function isOfType(value: unknown, type: string): boolean {
  switch (type) {
    case "null":
      return value === null;
    case "array":
      return Array.isArray(value);
    case "object":
      return isObject(value);
    case "integer":
      return Number.isInteger(value);
    default:
      return type === typeof value;
  }
}

function addRequired(schema: Schema): Schema {
  const { required, properties, additionalProperties = true } = schema;
  if (!Array.isArray(required) || (properties !== undefined && !isObject(properties)))
    return schema;
  const missing = required.filter(
    (name) => typeof name === "string" && !Object.hasOwn(properties ?? {}, name),
  );
  if (missing.length === 0) return schema;
  if (additionalProperties === false) {
    throw new GrammarError(
      `required ${JSON.stringify(missing[0])} is no property, and no others may be`,
    );
  }
  const added = missing.map((name) => [name, additionalProperties] as const);
  return { ...schema, properties: { ...properties, ...Object.fromEntries(added) } };
}
