import { pythonRepr } from "../../../src/cli/python-repr.js";

/** One field of a request: what it is read as, and in which words it is refused. */
export interface FieldRow {
  field: string;
  routes: readonly Route[];
  /** Given, and what it comes to: of the sampling parameters, else of the parsed body. */
  good: readonly (readonly [unknown, unknown])[];
  /** Given, and the whole message. */
  bad: readonly RefusedCase[];
  /** Other fields that a value needs. */
  beside?: Record<string, unknown>;
}

export type Route = "completion" | "chat";
export type RefusedCase = readonly [unknown, string];

export const both = ["completion", "chat"] as const;
export const completion = ["completion"] as const;
export const chat = ["chat"] as const;

/** pydantic's refusal of a field; of a part of it when `part` tells where and what. */
export function pydantic(
  field: string,
  given: unknown,
  type: string,
  msg: string,
  part?: { at: string | number; input: unknown },
): RefusedCase {
  const path = part === undefined ? [field] : [field, part.at];
  const loc = ["body", ...path].map((key) => pythonRepr(key)).join(", ");
  const input = pythonRepr(part === undefined ? given : part.input);
  const problem = `{'type': '${type}', 'loc': (${loc}), 'msg': '${msg}', 'input': ${input}}`;
  return [given, `1 validation error:\n  ${problem}`];
}

/** Values of wrong types, with pydantic's words, by the type that a field has. */
const wrongTypes = {
  int: [
    [
      "many",
      "int_parsing",
      "Input should be a valid integer, unable to parse string as an integer",
    ],
    [1.5, "int_from_float", "Input should be a valid integer, got a number with a fractional part"],
    [true, "int_type", "Input should be a valid integer"],
    [[], "int_type", "Input should be a valid integer"],
  ],
  float: [
    ["hot", "float_parsing", "Input should be a valid number, unable to parse string as a number"],
    [{}, "float_type", "Input should be a valid number"],
  ],
  bool: [
    ["maybe", "bool_parsing", "Input should be a valid boolean, unable to interpret input"],
    [[], "bool_type", "Input should be a valid boolean"],
  ],
  string: [[5, "string_type", "Input should be a valid string"]],
  object: [
    [[1], "dict_type", "Input should be a valid dictionary"],
    ["x", "dict_type", "Input should be a valid dictionary"],
  ],
  nested: [
    [
      5,
      "model_attributes_type",
      "Input should be a valid dictionary or object to extract fields from",
    ],
  ],
  list: [[5, "list_type", "Input should be a valid list"]],
} satisfies Record<string, (readonly [unknown, string, string])[]>;

/** The refusals of values that are not of the field's type. */
export function wrongType(kind: keyof typeof wrongTypes, field: string): RefusedCase[] {
  return wrongTypes[kind].map(([given, type, msg]) =>
    pydantic(field, given, type as string, msg as string),
  );
}

export const atLeast = (field: string, given: number, min: number) =>
  pydantic(field, given, "greater_than_equal", `Input should be greater than or equal to ${min}`);
export const atMost = (field: string, given: number, max: number) =>
  pydantic(field, given, "less_than_equal", `Input should be less than or equal to ${max}`);

/** A field of one type: wrong types are refused as all of that type are. */
export function row(
  kind: keyof typeof wrongTypes,
  field: string,
  routes: readonly Route[],
  good: FieldRow["good"],
  bad: FieldRow["bad"] = [],
  beside: Record<string, unknown> = {},
): FieldRow {
  return { field, routes, good, bad: [...wrongType(kind, field), ...bad], beside };
}

export function flag(field: string, routes: readonly Route[]): FieldRow {
  return row("bool", field, routes, [
    [true, true],
    [false, false],
    ["true", true],
    [0, false],
  ]);
}

/** Taken and without effect on text: any value will do. */
export function ignored(field: string, routes: readonly Route[], ...values: unknown[]): FieldRow {
  return { field, routes, bad: [], good: values.map((value) => [value, undefined] as const) };
}

/** Refused unless it asks for nothing. */
export function refused(
  field: string,
  routes: readonly Route[],
  harmless: readonly unknown[],
  ...bad: RefusedCase[]
): FieldRow {
  return { field, routes, bad, good: harmless.map((value) => [value, undefined] as const) };
}
