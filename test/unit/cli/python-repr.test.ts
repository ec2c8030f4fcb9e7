import { expect, it } from "vitest";
import { pythonRepr } from "../../../src/cli/python-repr.js";

it.each([
  [null, "None"],
  [true, "True"],
  [1.5, "1.5"],
  [Number.POSITIVE_INFINITY, "inf"],
  ["it's", '"it\'s"'],
  ["a 'b' \"c\"\n\\", "'a \\'b\\' \"c\"\\n\\\\'"],
  [{ a: [1, "x"], b: { c: null } }, "{'a': [1, 'x'], 'b': {'c': None}}"],
  [[], "[]"],
])("writes %j as Python does", (value, text) => {
  expect(pythonRepr(value)).toBe(text);
});
