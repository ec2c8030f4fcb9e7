import { expect, it } from "vitest";
import { readStructuredOutputsConfig } from "../../../src/cli/structured-outputs-config.js";

it("takes what changes nothing, and the two that do", () => {
  const plain = { disableAnyWhitespace: false, reasoningParser: null };
  expect(readStructuredOutputsConfig({})).toEqual(plain);
  expect(readStructuredOutputsConfig({ backend: "xgrammar", disable_fallback: true })).toEqual(
    plain,
  );
  expect(
    readStructuredOutputsConfig({ disable_any_whitespace: true, reasoning_parser: "qwen3" }),
  ).toEqual({ disableAnyWhitespace: true, reasoningParser: "qwen3" });
});

it.each([
  [{ backend: "outlines" }, 'backend must be "auto" or "xgrammar", got "outlines"'],
  [{ disable_any_whitespace: "yes" }, 'must be true or false, got "yes"'],
  [{ enable_in_reasoning: true }, "enable_in_reasoning must be false, got true"],
  [{ disable_any_whitespaces: true }, "Did you mean disable_any_whitespace?"],
  [{ constructor: 1 }, "unknown key 'constructor'"],
])("%j is refused", (given, message) => {
  expect(() => readStructuredOutputsConfig(given)).toThrow(
    new RegExp(`^argument --structured-outputs-config: .*${message.replace(/[?.]/g, "\\$&")}`),
  );
});
