import { GrammarError } from "./grammar-errors.js";
import { type Bound, numberRange } from "./number-range.js";
import { isObject, mapSchemas } from "./schema-walk.js";

/** A schema whose bounded numbers are stood in for, and the EBNF to put in their places. */
export interface RangedSchema {
  schema: unknown;
  /** By the string constant that stands for them. */
  ranges: ReadonlyMap<string, string>;
}

const boundKeywords = ["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"] as const;

/**
 * Takes the bounds of numbers out of a schema: xgrammar lets numbers through that are out of bounds
 * (159 for at most 150, 1.5 for at most 1). Each bounded number becomes a constant string, in whose
 * place its own rule is put. @throws GrammarError when no number is within the bounds.
 */
export function takeRanges(schema: unknown): RangedSchema {
  const ranges = new Map<string, string>();
  const replace = (given: unknown): unknown => {
    const inner = mapSchemas(given, replace);
    return isObject(inner) && isBounded(inner) ? standIn(inner, ranges) : inner;
  };
  return { schema: replace(schema), ranges };
}

/** Puts the rules into the grammar that was made of the schema, in place of their constants. */
export function putRanges(ebnf: string, ranges: RangedSchema["ranges"]): string {
  let text = ebnf;
  for (const [name, range] of ranges) text = text.replaceAll(`"\\"${name}\\""`, `(${range})`);
  return text;
}

function isBounded(schema: Record<string, unknown>): boolean {
  const isFixed = "enum" in schema || "const" in schema;
  const types = [schema.type].flat();
  const isNumber = types.includes("integer") || types.includes("number");
  return isNumber && !isFixed && boundKeywords.some((name) => typeof schema[name] === "number");
}

function standIn(schema: Record<string, unknown>, ranges: Map<string, string>): unknown {
  const types = [schema.type].flat();
  if (types.length > 1) return { anyOf: types.map((type) => standIn({ ...schema, type }, ranges)) };
  if (schema.type !== "integer" && schema.type !== "number") return schema;
  const low = tightest(schema.minimum, schema.exclusiveMinimum, (a, b) => a > b);
  const high = tightest(schema.maximum, schema.exclusiveMaximum, (a, b) => a < b);
  const range = numberRange(low, high, schema.type === "integer");
  if (range === null) throw new GrammarError("Invalid range: minimum greater than maximum");
  const name = `@@number-${ranges.size}@@`;
  ranges.set(name, range);
  return { const: name };
}

/** The bound that leaves less room; null without one. */
function tightest(
  inclusive: unknown,
  exclusive: unknown,
  isTighter: (a: number, b: number) => boolean,
): Bound | null {
  const given: Bound[] = [];
  if (typeof exclusive === "number") given.push({ value: exclusive, isExclusive: true });
  if (typeof inclusive === "number") given.push({ value: inclusive, isExclusive: false });
  const [first = null, second = null] = given;
  return first !== null && second !== null && isTighter(second.value, first.value) ? second : first;
}
