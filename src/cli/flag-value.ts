import type { FlagSpec, FlagValue } from "./flags/index.js";
import { parseHumanInt } from "./human-int.js";

/** Why a value does not fit its flag, in argparse's words; the caller names flag and source. */
export class ValueProblem extends Error {}

/**
 * Reads a value for a flag: text from the command line or the environment, or what a configuration
 * file holds. Checks type, choices and bounds. Throws {@link ValueProblem}.
 */
export function parseFlagValue(spec: FlagSpec, raw: unknown): FlagValue {
  if (raw === null || raw === "None" || (raw === "" && spec.type !== "append")) {
    if (spec.optional) return null;
    if (raw === null) return spec.default;
  }
  const value = readers[spec.type](raw);
  if (spec.choices !== null && !spec.choices.includes(String(value))) {
    const choices = spec.choices.map((choice) => `'${choice}'`).join(", ");
    throw new ValueProblem(`invalid choice: '${String(value)}' (choose from ${choices})`);
  }
  if (typeof value === "number") checkBounds(spec, value);
  return value;
}

const readers: Record<FlagSpec["type"], (raw: unknown) => FlagValue> = {
  string: readString,
  int: readInt,
  humanInt: readHumanInt,
  humanIntOrAuto: (raw) => (raw === "auto" ? -1 : readHumanInt(raw)),
  float: readFloat,
  rate: readRate,
  bool: readBool,
  switch: readBool,
  json: readJsonObject,
  jsonList: (raw) => readJsonList(raw).map(readString),
  stringList: (raw) => readList(raw).map(readString),
  intList: (raw) => readList(raw).map(readInt),
  append: (raw) => (Array.isArray(raw) ? raw : [raw]).map(readString),
};

function describe(raw: unknown): string {
  return typeof raw === "string" ? raw : JSON.stringify(raw);
}

function readString(raw: unknown): string {
  if (typeof raw === "string") return raw;
  if (typeof raw === "number" || typeof raw === "boolean") return String(raw);
  throw new ValueProblem(`invalid str value: '${describe(raw)}'`);
}

function readInt(raw: unknown): number {
  const value = typeof raw === "string" && /^\s*[+-]?\d+\s*$/.test(raw) ? Number(raw) : raw;
  if (typeof value === "number" && Number.isSafeInteger(value)) return value;
  throw new ValueProblem(`invalid int value: '${describe(raw)}'`);
}

function readHumanInt(raw: unknown): number {
  if (typeof raw !== "string") return readInt(raw);
  const result = parseHumanInt(raw);
  if (typeof result === "string") throw new ValueProblem(result);
  return result;
}

function readFloat(raw: unknown): number {
  const isNumeric = typeof raw === "string" && /^\s*[+-]?(\d|\.\d)/.test(raw);
  const value = isNumeric ? Number(raw) : raw;
  if (typeof value === "number" && Number.isFinite(value)) return value;
  throw new ValueProblem(`invalid float value: '${describe(raw)}'`);
}

function readRate(raw: unknown): number {
  const value = raw === "inf" ? Number.POSITIVE_INFINITY : readFloat(raw);
  if (value > 0) return value;
  throw new ValueProblem(`invalid float value: '${describe(raw)}'`);
}

const booleanWords = new Map([
  ...["true", "1", "yes", "on"].map((word) => [word, true] as const),
  ...["false", "0", "no", "off"].map((word) => [word, false] as const),
]);

function readBool(raw: unknown): boolean {
  const value = booleanWords.get(String(raw).toLowerCase());
  if (value !== undefined) return value;
  throw new ValueProblem(`invalid bool value: '${describe(raw)}'`);
}

function parseJson(raw: unknown): unknown {
  if (typeof raw !== "string") return raw;
  try {
    return JSON.parse(raw);
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new ValueProblem(`Value ${raw} cannot be read as JSON: ${reason}`);
  }
}

function readJsonObject(raw: unknown): Record<string, unknown> {
  const value = parseJson(raw);
  if (isPlainObject(value)) return value;
  throw new ValueProblem(`Value ${describe(raw)} must be a JSON object`);
}

function readJsonList(raw: unknown): unknown[] {
  const value = parseJson(raw);
  if (Array.isArray(value)) return value;
  throw new ValueProblem(`Value ${describe(raw)} must be a JSON list`);
}

/** All values given on the command line; in the environment, a JSON list or a comma list. */
function readList(raw: unknown): unknown[] {
  if (Array.isArray(raw)) return raw;
  if (typeof raw !== "string") return [raw];
  return raw.trimStart().startsWith("[") ? readJsonList(raw) : raw.split(",");
}

/** True for what JSON calls an object. */
export function isPlainObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function checkBounds(spec: FlagSpec, value: number): void {
  if (value < spec.min) {
    throw new ValueProblem(`invalid value: must be at least ${spec.min}, got ${value}`);
  }
  if (value > spec.max) {
    throw new ValueProblem(`invalid value: must be at most ${spec.max}, got ${value}`);
  }
}
