import type { Schema } from "./generate.js";

/** Schemas as applications send them, and corners that once went wrong. */
export const classicSchemas: readonly Schema[] = [
  {
    type: "object",
    properties: {
      name: { type: "string", minLength: 1, maxLength: 30 },
      age: { type: "integer", minimum: 0, maximum: 150 },
      email: { type: "string", format: "email" },
      tags: { type: "array", items: { enum: ["a", "b", "c"] }, minItems: 1, maxItems: 3 },
      address: {
        type: "object",
        properties: { street: { type: "string" }, zip: { type: "string", pattern: "^[0-9]{5}$" } },
        required: ["street", "zip"],
        additionalProperties: false,
      },
    },
    required: ["name", "age", "address"],
    additionalProperties: false,
  },
  {
    type: "object",
    properties: {
      steps: {
        type: "array",
        items: {
          type: "object",
          properties: { explanation: { type: "string" }, output: { type: "string" } },
          required: ["explanation", "output"],
          additionalProperties: false,
        },
      },
      final_answer: { type: "string" },
    },
    required: ["steps", "final_answer"],
    additionalProperties: false,
  },
  {
    anyOf: [
      {
        type: "object",
        properties: { kind: { const: "a" }, n: { type: "integer" } },
        required: ["kind"],
      },
      {
        type: "object",
        properties: { kind: { const: "b" }, s: { type: "string" } },
        required: ["kind"],
      },
    ],
  },
  {
    $ref: "#/$defs/node",
    $defs: {
      node: {
        type: "object",
        properties: {
          label: { type: "string", maxLength: 8 },
          children: { type: "array", items: { $ref: "#/$defs/node" }, maxItems: 2 },
        },
        required: ["label"],
        additionalProperties: false,
      },
    },
  },
  {
    type: "object",
    properties: { a: { type: "integer" } },
    additionalProperties: { type: "string" },
  },
  { type: "object", properties: {}, required: ["free"] },
  { type: "object", required: ["x", "y"], additionalProperties: { type: "integer", minimum: 3 } },
  {
    type: "array",
    prefixItems: [{ type: "string" }, { type: "integer" }],
    items: false,
    minItems: 2,
  },
  { type: "array", prefixItems: [{ const: 1 }], minItems: 3, items: { type: "boolean" } },
  { type: "object", minProperties: 2, maxProperties: 3, additionalProperties: { type: "null" } },
  { type: "string", pattern: "[0-9]" },
  { type: "string", pattern: '^"[^"]*"$' },
  { type: "string", pattern: "^[\\s\\S]{1,4}$" },
  { type: "string", pattern: "^\\n\\t?$" },
  { type: "string", pattern: "foo|^bar" },
  { type: "integer", enum: [1, 2, "three"] },
  { type: "string", const: 5 },
  { type: "number", minimum: 1e-7, maximum: 2e-7 },
  { type: "integer", minimum: 9_007_199_254_740_991 },
  { type: "string", minLength: 2 ** 32 + 3, maxLength: 2 ** 32 + 5 },
  { type: "array", items: {}, minItems: 2 ** 32 + 1 },
  { minimum: 5 },
  { properties: { a: { type: "integer" } }, required: ["a"] },
  { enum: [{ b: 1, a: [null, "x"] }, "é\u2028"] },
  { definitions: { a: { type: "boolean" } }, items: { $ref: "#/definitions/a" }, type: "array" },
  { $defs: { "a/b~c d": { type: "null" } }, $ref: "#/$defs/a~1b~0c%20d" },
  {
    type: "object",
    properties: { a: { $ref: "#/properties/b" }, b: { type: "integer" } },
    required: ["a"],
  },
  { $ref: "#/$defs/s", maxLength: 2, $defs: { s: { type: "string" } } },
  { type: "string", anyOf: [{ minLength: 3 }, { maxLength: 1 }] },
  { oneOf: [{ type: "integer" }, { type: "number", minimum: 2 }] },
  { type: ["object", "null"], properties: { a: { type: "string" } }, required: ["a"] },
  { type: "object", properties: { a: false, b: true } },
  {
    type: "object",
    unevaluatedProperties: { type: "integer" },
    properties: { s: { type: "string" } },
  },
  { type: "string", format: "date" },
  { type: "string", format: "email", minLength: 12 },
];
