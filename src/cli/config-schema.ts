import { configFileTable, type FlagSpec, type FlagType, flagGroups } from "./flags/index.js";

type JsonSchema = Record<string, unknown>;

/** `16K`, `25.6k`, `4096`: a number as the command line takes it. */
const humanNumber = { type: "string", pattern: "^\\d+(\\.\\d+)?[kmgt]?$|^\\d+[KMGT]$" };

/** What a configuration file may hold for a type of flag. */
const shapes: Record<FlagType, (spec: FlagSpec) => JsonSchema> = {
  string: ({ choices }) => (choices === null ? { type: ["string", "number"] } : { enum: choices }),
  int: ({ choices, ...spec }) =>
    choices === null
      ? { type: "integer", ...bounds(spec) }
      : { enum: choices.map((choice) => Number(choice)) },
  humanInt: (spec) => ({ anyOf: [{ type: "integer", ...bounds(spec) }, humanNumber] }),
  humanIntOrAuto: (spec) => ({
    anyOf: [{ type: "integer", ...bounds(spec) }, humanNumber, { const: "auto" }],
  }),
  float: (spec) => ({ type: "number", ...bounds(spec) }),
  rate: () => ({ anyOf: [{ type: "number", exclusiveMinimum: 0 }, { const: "inf" }] }),
  bool: () => ({ type: "boolean" }),
  switch: () => ({ type: "boolean" }),
  json: () => ({ type: "object" }),
  jsonList: () => listOf("string"),
  stringList: () => oneOrMore("string"),
  intList: () => oneOrMore("integer"),
  append: () => oneOrMore("string"),
};

function listOf(type: string): JsonSchema {
  return { type: "array", items: { type } };
}

function oneOrMore(type: string): JsonSchema {
  return { anyOf: [{ type }, listOf(type)] };
}

function bounds({ min, max }: Pick<FlagSpec, "min" | "max">): JsonSchema {
  return {
    ...(Number.isFinite(min) ? { minimum: min } : {}),
    ...(Number.isFinite(max) ? { maximum: max } : {}),
  };
}

function property(spec: FlagSpec): JsonSchema {
  const shape = shapes[spec.type](spec);
  return {
    description: `${spec.group}: ${spec.help}`,
    ...(spec.optional ? { anyOf: [shape, { type: "null" }] } : shape),
    ...(spec.default === null ? {} : { default: spec.default }),
    ...(spec.status.kind === "implemented" ? {} : { deprecated: true }),
  };
}

/**
 * JSON schema (draft 7) of configuration files: a property for every flag of the commands that load a
 * model. Keys with `_`, and `no-x` for flags of yes and no, are taken too, unchecked by the schema.
 */
export function configSchema(): JsonSchema {
  const groups = Object.keys(flagGroups);
  const rows = Object.entries(configFileTable)
    .filter(([name]) => name !== "config")
    .sort(([a, left], [b, right]) => {
      const order = groups.indexOf(left.group) - groups.indexOf(right.group);
      return order !== 0 ? order : a < b ? -1 : 1;
    });
  return {
    $schema: "http://json-schema.org/draft-07/schema#",
    title: "Configuration of ucm",
    type: "object",
    properties: {
      "model-tag": { description: "The same as model.", type: "string" },
      ...Object.fromEntries(rows.map(([name, spec]) => [name, property(spec)])),
    },
    patternProperties: { "^no[-_]": { type: "boolean" }, _: {} },
    additionalProperties: false,
  };
}
