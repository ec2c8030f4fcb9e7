import type { Dice } from "./dice.js";

/** Schemas, regular expressions, grammars and templates that ask for trouble. */

const nest = (depth: number, wrap: (inner: unknown) => unknown, core: unknown = true) => {
  let value = core;
  for (let i = 0; i < depth; i++) value = wrap(value);
  return value;
};

const tree = {
  type: "object",
  properties: { left: { $ref: "#/$defs/tree" }, right: { $ref: "#/$defs/tree" } },
};

export function hostileSchema(dice: Dice): unknown {
  return dice.pick<() => unknown>([
    () => ({ type: "object", properties: { a: { type: "integer", maximum: dice.below(1000) } } }),
    () => ({ type: dice.pick(["text", "", 5, null, ["string", "null"], ["object", 3], []]) }),
    () => ({ $ref: "#" }),
    () => ({ $ref: "#/$defs/a", $defs: { a: { $ref: "#/$defs/b" }, b: { $ref: "#/$defs/a" } } }),
    () => ({ $ref: "#/$defs/tree", $defs: { tree } }),
    () => ({ $ref: dice.pick(["http://x.test/", "#/$defs/~2", "#/%ff", "##", "#/a/b/c", "", 7]) }),
    () => nest(dice.pick([10, 60, 70, 500]), (items) => ({ type: "array", items })),
    () => nest(dice.pick([10, 300]), (a) => ({ anyOf: [a, { type: "null" }] })),
    () => ({ enum: Array.from({ length: dice.pick([0, 1, 2000]) }, (_, i) => `value ${i}`) }),
    () => ({ enum: [[], {}, null, 1e300, "\u0000", "\ud800", { __proto__: 1 }] }),
    () => ({ const: nest(dice.pick([5, 400]), (inner) => [inner]) }),
    () => ({ type: "string", pattern: hostileRegex(dice) }),
    () => ({ type: "string", minLength: dice.pick([-1, 1e9, 5, 1.5, "x"]), maxLength: 3 }),
    () => ({ type: "string", maxLength: dice.pick([0, 64, 100_000, 2 ** 31, 1e300]) }),
    () => ({ type: "array", minItems: dice.pick([0, 50, 100_000, 2 ** 40]), items: {} }),
    () => ({ type: "integer", minimum: dice.pick([-1e300, 1e21, 5e-324]), maximum: 1e300 }),
    () => ({ type: "number", multipleOf: 0 }),
    () => ({ type: "object", properties: null, required: dice.pick([null, 7, ["a"], [1]]) }),
    () => ({ properties: { __proto__: {}, constructor: {}, "": {}, "\u0000": {} } }),
    () => ({ format: dice.pick(["date", "isbn", "__proto__", 5]), type: "string" }),
    () => ({ not: {}, if: {}, allOf: [{}, {}], oneOf: [], anyOf: 7 }),
    () => dice.pick([true, false, null, [], "", "{", "[]", '{"type":"object"}', 5]),
    () => ({
      type: "object",
      properties: Object.fromEntries(
        Array.from({ length: dice.pick([3, 40, 400]) }, (_, i) => [`key ${i}`, { type: "string" }]),
      ),
    }),
  ])();
}

export function hostileRegex(dice: Dice): unknown {
  return dice.pick<() => unknown>([
    () => "(a+)+$",
    () => `(a|a)*${"b".repeat(dice.below(20))}`,
    () => `^(${"(x+x+)+".repeat(dice.below(5) + 1)})y$`,
    () => `[a-z]{${dice.below(50)},${dice.pick([60, 500])}}`,
    () => `(.{1,${dice.pick([3, 30])}}){1,${dice.pick([3, 30])}}`,
    () => "(".repeat(dice.pick([1, 50, 3000])),
    () => `${"(".repeat(200)}a${")".repeat(200)}`,
    () => dice.pick(["", "[", "[z-a]", "\\", "*", "a{5,1}", "(?=x)y", "(?<n>a)\\k<n>", "\\p{L}+"]),
    () => "é🦊\u0000\ud800[^\\s\\S]",
    () => `(${Array.from({ length: 300 }, (_, i) => `w${i}`).join("|")})*`,
    () => dice.pick([5, null, [], {}, true]),
  ])();
}

export function hostileGrammar(dice: Dice): unknown {
  return dice.pick<() => unknown>([
    () => "root ::= root",
    () => 'root ::= root "a" | ""',
    () => "root ::= a\na ::= b\nb ::= a",
    () => 'root ::= "(" root ")" | [a-c]*',
    () => `root ::= ${"(".repeat(dice.pick([1, 500]))}`,
    () => `root ::= "a"{${dice.below(9)},${dice.pick([10, 200])}}`,
    () => `root ::= ${Array.from({ length: 200 }, (_, i) => `"x${i}" r${i}`).join(" | ")}`,
    () => dice.pick(["", "root", "::=", 'root ::= "', "root ::= [", "start: 'x'", "\u0000", "#"]),
    () => 'root ::= ("" | "")* ("" | root)*',
    () => dice.pick([7, null, [], {}]),
  ])();
}

export function hostileTemplate(dice: Dice): unknown {
  return dice.pick<() => unknown>([
    () => "{% for message in messages %}{{ message.content }}{% endfor %}",
    () =>
      `{% for i in range(${dice.pick(["1e9", "-1", "100000000", "10 ** 9", "'x'"])}) %}a{% endfor %}`,
    () => "{% for i in range(9999) %}{% for j in range(9999) %}x{% endfor %}{% endfor %}",
    () =>
      "{% set ns = namespace(x='ab') %}{% for i in range(40) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}{{ ns.x }}",
    () => "{% macro f(x) %}{{ f(x) }}{% endmacro %}{{ f(1) }}",
    () => `{{ ${"(".repeat(dice.pick([5, 5000]))}1 }}`,
    () => `{{ ${"[".repeat(2000)}${"]".repeat(2000)} }}`,
    () => "{{ messages[0].__proto__.constructor('return process')() }}",
    () => "{{ ''.constructor }}{{ range.constructor }}{{ messages.__class__ }}",
    () => "{{ raise_exception(messages) }}",
    () =>
      dice.pick(["{% for %}", "{{", "{% if %}", "{{ 1 / 0 }}", "{# ", "", "{{ x.y.z }}", "\u0000"]),
    () => dice.pick([5, null, [], {}]),
  ])();
}
