import { isObject } from "./schema-walk.js";

type Schema = Record<string, unknown>;

/**
 * Whether no output that is generated of one alternative matches another: then "exactly one of" is
 * "any of", which is what grammars know.
 */
export function areExclusive(alternatives: readonly unknown[], root: unknown): boolean {
  const schemas = alternatives.map((alternative) => follow(alternative, root));
  return schemas.every((one, i) =>
    schemas.every(
      (other, j) => i === j || (one !== null && other !== null && excludes(one, other)),
    ),
  );
}

/** The schema that a reference within the whole leads to; null when it is none to look into. */
function follow(schema: unknown, root: unknown): Schema | null {
  let found = schema;
  for (let hops = 0; hops < 8; hops++) {
    if (!isObject(found)) return null;
    if (typeof found.$ref !== "string") return found;
    found = found.$ref
      .split("/")
      .slice(1)
      .reduce((at: unknown, key) => (isObject(at) ? at[key] : undefined), root);
  }
  return null;
}

/** Whether outputs of `one` never match `other`. */
function excludes(one: Schema, other: Schema): boolean {
  const [values, others] = [valuesOf(one), valuesOf(other)];
  if (values !== null && others !== null) return areDisjoint(values, others);
  const [types, otherTypes] = [typesOf(one), typesOf(other)];
  if (types !== null && otherTypes !== null && areDisjoint(types, otherTypes)) return true;
  const { required } = other;
  if (!Array.isArray(required) || !isObject(other.properties)) return false;
  if (types?.join() !== "object") return false;
  const properties = isObject(one.properties) ? one.properties : {};
  const isClosed = one.additionalProperties === undefined || one.additionalProperties === false;
  return required.some((name: string) => {
    if (!Object.hasOwn(properties, name)) return isClosed;
    const [mine, theirs] = [properties[name], (other.properties as Schema)[name]];
    return isObject(mine) && isObject(theirs) && excludesByValue(mine, theirs);
  });
}

function excludesByValue(one: Schema, other: Schema): boolean {
  const [values, others] = [valuesOf(one), valuesOf(other)];
  if (values !== null && others !== null) return areDisjoint(values, others);
  const [types, otherTypes] = [typesOf(one), typesOf(other)];
  return types !== null && otherTypes !== null && areDisjoint(types, otherTypes);
}

/** The values that there are, as JSON; null for any. */
function valuesOf(schema: Schema): string[] | null {
  if ("const" in schema) return [JSON.stringify(schema.const)];
  return Array.isArray(schema.enum) ? schema.enum.map((value) => JSON.stringify(value)) : null;
}

/** Types of the values; null for any. An integer is a number. */
function typesOf(schema: Schema): string[] | null {
  const values = "const" in schema ? [schema.const] : schema.enum;
  if (Array.isArray(values)) {
    return values.map((value) => {
      if (value === null) return "null";
      return Array.isArray(value) ? "array" : typeof value;
    });
  }
  if (schema.type === undefined) return isObject(schema.properties) ? ["object"] : null;
  return [schema.type].flat().map((type) => (type === "integer" ? "number" : String(type)));
}

function areDisjoint(one: readonly string[], other: readonly string[]): boolean {
  return !one.some((item) => other.includes(item));
}
