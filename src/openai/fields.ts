import { z } from "zod";

/**
 * Field types that read JSON values as pydantic's lax mode does for vLLM: numbers and booleans may
 * come as strings. Each refuses with pydantic's error type and words, carried in the issue.
 */

/** What is wrong with a value, in pydantic's words. */
export class Mismatch {
  readonly type: string;
  readonly message: string;

  constructor(type: string, message: string) {
    this.type = type;
    this.message = message;
  }
}

/** A zod type from a function that returns the value read or what is wrong with it. */
export function lax<T>(read: (value: unknown) => T | Mismatch) {
  return z.unknown().transform((value, context): T => {
    const result = read(value);
    if (!(result instanceof Mismatch)) return result;
    const { type, message } = result;
    context.issues.push({ code: "custom", input: value, message, params: { type } });
    return z.NEVER;
  });
}

interface Bounds {
  min?: number;
  max?: number;
}

/** An integer, perhaps as a string or as a float without fraction. */
export function int(bounds: Bounds = {}) {
  return lax((value) => {
    const read = readNumber(value, "int");
    if (read instanceof Mismatch) return read;
    if (!Number.isInteger(read)) {
      return new Mismatch(
        "int_from_float",
        "Input should be a valid integer, got a number with a fractional part",
      );
    }
    return checkBounds(read, bounds);
  });
}

/** A finite number, perhaps as a string. */
export function float() {
  return lax((value) => readNumber(value, "float"));
}

const booleanWords = new Map<unknown, boolean>([
  ...["true", "t", "yes", "y", "on", "1", 1].map((word) => [word, true] as const),
  ...["false", "f", "no", "n", "off", "0", 0].map((word) => [word, false] as const),
]);

export function bool() {
  return lax((value) => {
    if (typeof value === "boolean") return value;
    const word = typeof value === "string" ? value.toLowerCase() : value;
    const known = booleanWords.get(word);
    if (known !== undefined) return known;
    return typeof value === "string" || typeof value === "number"
      ? new Mismatch("bool_parsing", "Input should be a valid boolean, unable to interpret input")
      : new Mismatch("bool_type", "Input should be a valid boolean");
  });
}

export function string() {
  return lax((value) =>
    typeof value === "string"
      ? value
      : new Mismatch("string_type", "Input should be a valid string"),
  );
}

/** A list of at most `maxLength` items. */
export function list<T>(item: z.ZodType<T, unknown>, maxLength: number) {
  return lax((value) => checkList(value, maxLength)).pipe(z.array(item));
}

/** A JSON object, as it is. */
export function object() {
  return lax((value): Record<string, unknown> | Mismatch =>
    typeof value === "object" && value !== null && !Array.isArray(value)
      ? (value as Record<string, unknown>)
      : new Mismatch("dict_type", "Input should be a valid dictionary"),
  );
}

/** Token ids in one pass without a zod issue per item: prompts may hold a million. */
export function tokenIds(maxLength: number) {
  return lax((value) => {
    const items = checkList(value, maxLength);
    return items instanceof Mismatch ? items : readTokenIds(items);
  });
}

/** The items as token ids, or what is wrong with the first that is none. */
export function readTokenIds(items: readonly unknown[]): number[] | Mismatch {
  for (let position = 0; position < items.length; position++) {
    const item = items[position];
    if (typeof item === "number" && Number.isInteger(item) && item >= 0) continue;
    return new Mismatch(
      "token_id",
      `Input should be a list of token ids, integers of 0 or more; the item at ${position} is not`,
    );
  }
  return items as number[];
}

function checkList(value: unknown, maxLength: number): unknown[] | Mismatch {
  if (!Array.isArray(value)) return new Mismatch("list_type", "Input should be a valid list");
  if (value.length <= maxLength) return value;
  return new Mismatch(
    "too_long",
    `List should have at most ${maxLength} items after validation, not ${value.length}`,
  );
}

const numberWords = {
  int: { name: "integer", article: "an" },
  float: { name: "number", article: "a" },
} as const;

function readNumber(value: unknown, kind: keyof typeof numberWords): number | Mismatch {
  const { name, article } = numberWords[kind];
  if (typeof value === "number") {
    if (Number.isFinite(value)) return value;
    return new Mismatch("finite_number", "Input should be a finite number");
  }
  if (typeof value !== "string") {
    return new Mismatch(`${kind}_type`, `Input should be a valid ${name}`);
  }
  const text = value.trim();
  if (/^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(text)) {
    const number = Number(text);
    if (Number.isFinite(number)) return number;
  }
  return new Mismatch(
    `${kind}_parsing`,
    `Input should be a valid ${name}, unable to parse string as ${article} ${name}`,
  );
}

function checkBounds(value: number, { min, max }: Bounds): number | Mismatch {
  if (min !== undefined && value < min) {
    return new Mismatch("greater_than_equal", `Input should be greater than or equal to ${min}`);
  }
  if (max !== undefined && value > max) {
    return new Mismatch("less_than_equal", `Input should be less than or equal to ${max}`);
  }
  return value;
}
