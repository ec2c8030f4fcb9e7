/** Where a schema holds further schemas: by name, in a list, or one. */
const mapKeywords = ["properties", "$defs", "definitions"] as const;
const listKeywords = ["anyOf", "oneOf", "allOf", "prefixItems"] as const;
const schemaKeywords = [
  "items",
  "additionalProperties",
  "additionalItems",
  "unevaluatedProperties",
  "unevaluatedItems",
] as const;

/** The schemas within a schema, each with its path from it. */
export function* innerSchemas(schema: Record<string, unknown>): Generator<[string, unknown]> {
  for (const keyword of mapKeywords) {
    for (const [name, inner] of Object.entries(Object(schema[keyword]))) {
      yield [`${keyword}/${name}`, inner];
    }
  }
  for (const keyword of listKeywords) {
    const list = schema[keyword];
    if (!Array.isArray(list)) continue;
    for (const [index, inner] of list.entries()) yield [`${keyword}/${index}`, inner];
  }
  for (const keyword of schemaKeywords) {
    if (schema[keyword] !== undefined) yield [keyword, schema[keyword]];
  }
}

/** A copy of a schema with `change` applied to the schemas within it. */
export function mapSchemas(schema: unknown, change: (inner: unknown) => unknown): unknown {
  if (!isObject(schema)) return schema;
  const copy: Record<string, unknown> = { ...schema };
  for (const keyword of mapKeywords) {
    const map = schema[keyword];
    if (!isObject(map)) continue;
    const changed = Object.entries(map).map(([name, inner]) => [name, change(inner)] as const);
    copy[keyword] = Object.fromEntries(changed);
  }
  for (const keyword of listKeywords) {
    const list = schema[keyword];
    if (Array.isArray(list)) copy[keyword] = list.map(change);
  }
  for (const keyword of schemaKeywords) {
    if (schema[keyword] !== undefined) copy[keyword] = change(schema[keyword]);
  }
  return copy;
}

export function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
