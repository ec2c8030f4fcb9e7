import { JSON_CHARACTER, jsonCharacterRule, quoteInJson, stringOfLength } from "./ebnf.js";
import { GrammarError } from "./grammar-errors.js";
import { type Bound, numberRange } from "./number-range.js";
import { bindOtherNames, otherNames } from "./other-names.js";
import { regexGrammar } from "./regex-grammar.js";
import { isObject, mapSchemas } from "./schema-walk.js";
import { stringFormats } from "./string-formats.js";

/** A schema with constants and names in place of what xgrammar would not hold to. */
export interface StandInSchema {
  schema: unknown;
  /** By the text that stands for it, the EBNF to put there. */
  standIns: ReadonlyMap<string, string>;
  /** By the text that marks further properties, the EBNF of their names. */
  otherNames: ReadonlyMap<string, string>;
}

const numberBounds = ["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"];
const textBounds = ["minLength", "maxLength", "pattern", "format"];
const mayCount = [
  "minLength",
  "maxLength",
  "minItems",
  "maxItems",
  "minProperties",
  "maxProperties",
];
/** What the library counts to. */
const MAX_COUNT = 2 ** 31 - 1;

/**
 * Takes out of a schema what xgrammar lets outputs break: numbers out of bounds (159 for at most 150),
 * line breaks and quotes as they are in strings with a length or a pattern, and names of properties
 * that are not plain. Each is stood for by a constant string, or a name, in whose place its own EBNF is
 * put. @throws GrammarError when nothing fits the bounds.
 */
export function takeStandIns(schema: unknown): StandInSchema {
  const standIns = new Map<string, string>();
  const marks = new Map<string, string>();
  const standFor = (ebnf: string): string => {
    const name = `@@${standIns.size}@@`;
    standIns.set(name, ebnf);
    return name;
  };
  const mark = (names: string): string => {
    const name = `@@names-${marks.size}@@`;
    marks.set(name, names);
    return name;
  };
  const replace = (given: unknown): unknown => {
    const inner = mapSchemas(given, replace);
    if (!isObject(inner)) return inner;
    checkCounts(inner);
    return renameProperties(markOthers(replaceLeaf(inner, standFor), mark), standFor);
  };
  return { schema: replace(schema), standIns, otherNames: marks };
}

/** Puts the EBNF into the grammar that was made of the schema, in place of what stands for it. */
export function putStandIns(
  grammar: string,
  { standIns, otherNames: marks }: Omit<StandInSchema, "schema">,
): string {
  let text = grammar;
  for (const [mark, names] of marks) text = bindOtherNames(text, mark, names);
  for (const [name, ebnf] of standIns) text = text.replaceAll(`"\\"${name}\\""`, `(${ebnf})`);
  return text.includes(JSON_CHARACTER) ? `${text}\n${jsonCharacterRule}\n` : text;
}

function checkCounts(schema: Record<string, unknown>): void {
  for (const keyword of mayCount) {
    const count = schema[keyword];
    if (count === undefined) continue;
    if (Number.isInteger(count) && Number(count) >= 0 && Number(count) <= MAX_COUNT) continue;
    throw new GrammarError(`${keyword} must be an integer from 0 to ${MAX_COUNT}`);
  }
}

type StandFor = (ebnf: string) => string;

function replaceLeaf(schema: Record<string, unknown>, standFor: StandFor): Record<string, unknown> {
  if ("enum" in schema || "const" in schema) return schema;
  const bounds = [...numberBounds, ...textBounds].filter((name) => schema[name] !== undefined);
  if (bounds.length === 0) return schema;
  const types = [schema.type].flat();
  if (types.length > 1) {
    return { anyOf: types.map((type) => replaceLeaf({ ...schema, type }, standFor)) };
  }
  if (schema.type === "string" && textBounds.some((name) => bounds.includes(name))) {
    return { const: standFor(textGrammar(schema)) };
  }
  const isNumber = schema.type === "integer" || schema.type === "number";
  if (isNumber && numberBounds.some((name) => bounds.includes(name))) {
    return { const: standFor(rangeGrammar(schema)) };
  }
  return schema;
}

function rangeGrammar(schema: Record<string, unknown>): string {
  const low = tightest(schema.minimum, schema.exclusiveMinimum, (a, b) => a > b);
  const high = tightest(schema.maximum, schema.exclusiveMaximum, (a, b) => a < b);
  const range = numberRange(low, high, schema.type === "integer");
  if (range === null) throw new GrammarError("Invalid range: minimum greater than maximum");
  return range;
}

function textGrammar({ pattern, format, minLength, maxLength }: Record<string, unknown>): string {
  const source = typeof format === "string" ? stringFormats[format] : pattern;
  if (typeof source === "string") return `"\\"" ${regexGrammar(source, true)} "\\""`;
  const min = Number(minLength ?? 0);
  const max = maxLength === undefined ? null : Number(maxLength);
  if (max !== null && min > max) {
    throw new GrammarError(`minLength ${min} is greater than maxLength ${max}`);
  }
  return stringOfLength(min, max);
}

/** Marks the values of properties beyond those that are named. */
function markOthers(
  schema: Record<string, unknown>,
  mark: (names: string) => string,
): Record<string, unknown> {
  const { properties, minProperties = 0 } = schema;
  const keyword = ["additionalProperties", "unevaluatedProperties"].find((name) => schema[name]);
  if (keyword === undefined) return schema;
  if (Number(minProperties) > 1) {
    throw new GrammarError(`minProperties beside ${keyword}, whose names may come twice`);
  }
  const names = isObject(properties) ? Object.keys(properties) : [];
  if (names.length === 0) return schema;
  const values = schema[keyword] === true ? {} : schema[keyword];
  return { ...schema, [keyword]: { anyOf: [values, { const: mark(otherNames(names)) }] } };
}

/** Names with characters that JSON escapes are written as they are, which no parser takes. */
function renameProperties(
  schema: Record<string, unknown>,
  standFor: StandFor,
): Record<string, unknown> {
  const { properties, required } = schema;
  if (!isObject(properties)) return schema;
  const names = new Map<string, string>();
  for (const name of Object.keys(properties)) {
    if (isPlain(name)) continue;
    names.set(name, standFor(`"\\"" ${quoteInJson(name)} "\\""`));
  }
  if (names.size === 0) return schema;
  const renamed = Object.entries(properties).map(([name, inner]) => [
    names.get(name) ?? name,
    inner,
  ]);
  return {
    ...schema,
    properties: Object.fromEntries(renamed),
    ...(Array.isArray(required)
      ? { required: required.map((name: string) => names.get(name) ?? name) }
      : {}),
  };
}

function isPlain(name: string): boolean {
  return JSON.stringify(name) === `"${name}"`;
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
