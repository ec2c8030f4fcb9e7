import { describe, expect, it } from "vitest";
import { parseFlagValue, ValueProblem } from "../../../src/cli/flag-value.js";
import { flagTable } from "../../../src/cli/flags/index.js";
import { parseHumanInt } from "../../../src/cli/human-int.js";

const read = (name: string, raw: unknown) => parseFlagValue(flagTable[name]!, raw);

function problem(name: string, raw: unknown): string {
  try {
    read(name, raw);
  } catch (error) {
    expect(error).toBeInstanceOf(ValueProblem);
    return (error as Error).message;
  }
  throw new Error(`${name} accepted ${String(raw)}`);
}

describe("parseHumanInt", () => {
  it.each([
    ["1k", 1000],
    ["1K", 1024],
    ["25.6k", 25600],
    ["2g", 2e9],
    ["4G", 4 * 2 ** 30],
    ["1.5m", 1_500_000],
    ["-1", -1],
    ["20000", 20000],
  ])("reads %s as %d", (text, expected) => {
    expect(parseHumanInt(text)).toBe(expected);
  });

  it("refuses decimals with binary suffixes and says what to write", () => {
    expect(parseHumanInt("1.5K")).toBe(
      "Decimals are not allowed with binary suffixes like K. Did you mean to use 1.5k instead?",
    );
  });

  it.each(["", "x", "1kk", "1.5", "0x10", "1e3"])("refuses %j", (text) => {
    expect(parseHumanInt(text)).toBe(`invalid int value: '${text}'`);
  });
});

describe("parseFlagValue", () => {
  it("speaks argparse's words", () => {
    expect(problem("port", "x")).toBe("invalid int value: 'x'");
    expect(problem("port", "1.5")).toBe("invalid int value: '1.5'");
    expect(problem("gpu-memory-utilization", "lots")).toBe("invalid float value: 'lots'");
    expect(problem("quantization", "awq")).toBe(
      "invalid choice: 'awq' (choose from 'int8', 'int4')",
    );
    expect(problem("kv-transfer-config", "{a}")).toMatch(/^Value \{a\} cannot be read as JSON: /);
    expect(problem("hf-overrides", "[1]")).toBe("Value [1] must be a JSON object");
  });

  it("checks bounds", () => {
    expect(problem("port", "70000")).toBe("invalid value: must be at most 65535, got 70000");
    expect(problem("num-gpu-blocks-override", 0)).toBe("invalid value: must be at least 1, got 0");
    expect(problem("block-size", "7")).toBe(
      "invalid choice: '7' (choose from '8', '16', '32', '64', '128', '256')",
    );
    expect(problem("gpu-memory-utilization", "nan")).toBe("invalid float value: 'nan'");
  });

  it("takes None and the empty string for null where a flag is optional", () => {
    expect(read("kv-transfer-config", "None")).toBeNull();
    expect(read("max-model-len", "")).toBeNull();
    expect(problem("port", "None")).toBe("invalid int value: 'None'");
  });

  it("takes auto for the context length alone", () => {
    expect(read("max-model-len", "auto")).toBe(-1);
    expect(problem("max-num-batched-tokens", "auto")).toBe("invalid int value: 'auto'");
  });

  it("takes native values of configuration files and lists of the environment", () => {
    expect(read("port", 80)).toBe(80);
    expect(read("hf-overrides", { a: 1 })).toEqual({ a: 1 });
    expect(read("enable-log-requests", false)).toBe(false);
    expect(read("api-key", "a,b")).toEqual(["a", "b"]);
    expect(read("api-key", '["a,b"]')).toEqual(["a,b"]);
    expect(read("allowed-origins", '["x"]')).toEqual(["x"]);
    expect(problem("enable-log-requests", "constructor")).toBe("invalid bool value: 'constructor'");
  });

  it("keeps an empty prompt", () => {
    expect(read("prompt", ["", "None"])).toEqual(["", "None"]);
  });
});
