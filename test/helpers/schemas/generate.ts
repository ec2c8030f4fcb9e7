import type { Dice } from "../hostile/dice.js";

/** Varied JSON schemas of draft 2020-12, by chance but the same for a seed. */

export type Schema = Record<string, unknown> | boolean;

const names = [
  "id",
  "näme",
  "a b",
  "東京",
  "it's",
  'say "hi"',
  "back\\slash",
  "x-1",
  "",
  "🦊",
  "$ref",
];
const texts = [
  "red",
  "",
  'quo"te',
  "new\nline",
  "東京",
  "back\\slash",
  "a/b",
  "\u0007",
  "null",
  "🦊",
];
const patterns = [
  ...["^[a-z]{2,5}$", "^(foo|bar)-[0-9]+$", "^\\d{3}-\\d{4}$", "^[A-Z][a-z]* [A-Z][a-z]*$"],
  ...["^[^a-z]{1,4}$", "^\\w+@\\w+\\.(com|org)$", "^.{3}$", '^["\\\\]{1,3}$', "^\\S{1,4}$", "^é+$"],
];
const formats = [
  ...["date", "time", "date-time", "email", "uuid", "ipv4", "ipv6", "hostname", "duration", "uri"],
  ...["uri-reference", "uri-template", "json-pointer", "relative-json-pointer"],
];

export function generateSchema(dice: Dice): Schema {
  const definitions: Record<string, Schema> = {};
  const root = anySchema(dice, 0, definitions);
  if (Object.keys(definitions).length === 0 || typeof root === "boolean") return root;
  return { ...root, $defs: definitions };
}

type Make = (dice: Dice, depth: number, definitions: Record<string, Schema>) => Schema;

function anySchema(...args: Parameters<Make>): Schema {
  const [dice, depth] = args;
  const leaf = dice.weighted<Make>(leaves);
  return depth >= 3 || dice.once(depth + 2) ? leaf(...args) : dice.weighted(branches)(...args);
}

const integer: Make = (dice) => {
  const low = dice.below(200) - 100;
  return { type: "integer", ...bounds(dice, low, low + dice.below(300)) };
};

const number: Make = (dice) => {
  const low = (dice.below(2000) - 1000) / 10 ** dice.below(3);
  return { type: "number", ...bounds(dice, low, low + dice.below(50) + 0.5) };
};

function bounds(dice: Dice, low: number, high: number): object {
  return {
    ...dice.pick([{}, { minimum: low }, { exclusiveMinimum: low - 1 }]),
    ...dice.pick([{}, { maximum: high }, { exclusiveMaximum: high + 1 }]),
  };
}

const boundedText: Make = (dice) => {
  const minLength = dice.below(4);
  return {
    type: "string",
    minLength,
    ...(dice.once(3) ? {} : { maxLength: minLength + dice.below(9) }),
  };
};

const leaves: [number, Make][] = [
  [3, () => ({ type: "string" })],
  [3, boundedText],
  [3, (dice) => ({ type: "string", pattern: dice.pick(patterns) })],
  [4, (dice) => ({ type: "string", format: dice.pick(formats) })],
  [4, integer],
  [4, number],
  [1, () => ({ type: "boolean" })],
  [1, () => ({ type: "null" })],
  [
    3,
    (dice) => ({
      enum: [dice.pick(texts), `${dice.pick(texts)}2`, 5, null, true, -1.5e3, [1, "x"]],
    }),
  ],
  [2, (dice) => ({ const: dice.pick<unknown>([...texts, 7, null, false, { a: [1] }, [], {}]) })],
  [
    2,
    (dice) => ({
      type: dice.pick([
        ["string", "null"],
        ["integer", "boolean"],
        ["number", "null"],
      ]),
    }),
  ],
  [1, (dice) => ({ type: ["integer", "null"], minimum: dice.below(20) })],
  [
    1,
    (dice) => ({ type: "string", enum: [dice.pick(texts), "other"], description: "with a type" }),
  ],
];

const object: Make = (dice, depth, definitions) => {
  const keys = names.filter(() => dice.once(3));
  const properties = Object.fromEntries(
    keys.map((key) => [key, anySchema(dice, depth + 1, definitions)]),
  );
  const extra = dice.weighted<() => object>([
    [3, () => ({})],
    [3, () => ({ additionalProperties: false })],
    [1, () => ({ additionalProperties: true })],
    [1, () => ({ additionalProperties: anySchema(dice, depth + 1, definitions) })],
  ])();
  const counts = dice.weighted<object>([
    [8, {}],
    [1, { minProperties: dice.below(3) }],
    [1, { maxProperties: dice.below(4) + 1 }],
  ]);
  return {
    ...{ type: "object", properties, ...extra, ...counts },
    required: keys.filter(() => dice.once(2)),
    ...(dice.once(8) ? { title: "a title", description: "of no effect", default: {} } : {}),
  };
};

const array: Make = (dice, depth, definitions) => {
  const minItems = dice.below(3);
  const prefixItems = Array.from({ length: dice.below(3) + 1 }, () =>
    anySchema(dice, depth + 1, definitions),
  );
  return {
    type: "array",
    ...(dice.once(4) ? { prefixItems } : {}),
    ...dice.pick<() => object>([
      () => ({ items: anySchema(dice, depth + 1, definitions) }),
      () => ({ items: anySchema(dice, depth + 1, definitions) }),
      () => ({ items: false }),
      () => ({}),
    ])(),
    ...(dice.once(2) ? { minItems, maxItems: minItems + dice.below(3) } : {}),
  };
};

/** A definition, new or one that is there already, or under way: recursion that may end. */
const reference: Make = (dice, depth, definitions) => {
  const known = Object.keys(definitions);
  if (known.length > 0 && dice.once(2)) return { $ref: `#/$defs/${dice.pick(known)}` };
  const name = `d${known.length}`;
  const self = { $ref: `#/$defs/${name}` };
  definitions[name] = {};
  definitions[name] = {
    type: "object",
    properties: {
      value: anySchema(dice, depth + 1, definitions),
      next: dice.pick<Schema>([
        self,
        { anyOf: [self, { type: "null" }] },
        { type: "array", items: self },
      ]),
    },
    required: ["value"],
    additionalProperties: false,
  };
  return self;
};

const branches: [number, Make][] = [
  [8, object],
  [4, array],
  [3, reference],
  [
    2,
    (dice, depth, definitions) => ({
      anyOf: Array.from({ length: dice.below(3) + 1 }, () =>
        anySchema(dice, depth + 1, definitions),
      ),
    }),
  ],
  [
    2,
    (dice) => ({
      oneOf: [{ type: "string", maxLength: 5 }, integer(dice, 0, {}), { type: "null" }],
    }),
  ],
  [1, (dice, depth, definitions) => ({ allOf: [anySchema(dice, depth + 1, definitions)] })],
  [
    1,
    (dice, depth, definitions) => ({
      oneOf: [object(dice, depth + 1, definitions), object(dice, depth + 1, definitions)],
    }),
  ],
  [1, (dice) => dice.pick<Schema>([{}, true, { type: "object" }, { type: "array" }])],
];
