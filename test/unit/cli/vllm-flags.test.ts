import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { parseArguments } from "../../../src/cli/arguments.js";
import { readCommandLine } from "../../../src/cli/command-flags.js";
import { parseFlagValue } from "../../../src/cli/flag-value.js";
import { type FlagSpec, type FlagType, flagsFor } from "../../../src/cli/flags/index.js";
import { makeTempFolder } from "../../helpers/temp-folder.js";
import { root } from "../../helpers/ucm-command.js";
import { casesOf } from "./flag-cases.js";

/** A flag of `vllm serve`, as three of its versions have it. */
interface Row {
  name: string;
  short: string[];
  group: string;
  type: string;
  /** In the baseline, v0.17; else in the newest; else in v0.11. */
  default: string;
  isBaseline: boolean;
}

function readRow(line: string): Row {
  const [name = "", short = "", group = "", type = "", oldest = "", baseline = "", newest = ""] =
    line.split("\t");
  return {
    ...{ name, group, type },
    short: short === "" ? [] : short.split(" "),
    default: [baseline, newest, oldest].find((value) => value !== "-")!,
    isBaseline: baseline !== "-",
  };
}

const rows = readFileSync(join(root, "test/fixtures/vllm-flags.tsv"), "utf8")
  .split("\n")
  .filter((line) => line !== "" && !line.startsWith("#"))
  .map(readRow);

const serve = flagsFor("serve");

/** Ours for a Python type; the first that matches. */
const types: [RegExp, FlagType[]][] = [
  [/store_true/, ["switch"]],
  [/^bool|BooleanOptionalAction/, ["bool"]],
  [/list\[int\]/, ["intList"]],
  [/lambda|^str or dict|torch\.dtype/, ["string"]],
  [/^str or list|^list|^set/, ["stringList", "jsonList", "append"]],
  [/dict|Config|HfOverrides|MMDummyOptions/, ["json"]],
  [/^int|BlockSize|OptimizationLevel|MaxLoRARanks/, ["int", "humanInt", "humanIntOrAuto"]],
  [/float/, ["float"]],
  [/^/, ["string"]],
];

/** Where a type or a default is another on purpose. */
const otherTypes: Record<string, FlagType> = {
  "shutdown-timeout": "float",
  "config-format": "string",
};
const otherDefaults: Record<string, string> = {
  model: "no model is downloaded unasked",
  task: "auto is what None means",
  "block-size": "the number that None comes to",
  "enable-prefix-caching": "on, as None comes to",
  "prefix-caching-hash-algo": "names of blocks are stable across processes",
  "shutdown-timeout": "requests in flight are finished",
  "ignore-patterns": "folders of a model on the hub are never downloaded",
};

const literals: Record<string, unknown> = { None: null, True: true, False: false };

/** A Python literal; undefined for expressions. */
function literal(text: string): unknown {
  if (text.endsWith("(auto)")) return null;
  if (text in literals) return literals[text];
  try {
    return JSON.parse(text.replaceAll("'", '"'));
  } catch {
    return undefined;
  }
}

const isEmpty = (value: unknown) =>
  value === null || (typeof value === "object" && Object.keys(value).length === 0);

const folder = makeTempFolder();
const outcome = (argv: string[]) =>
  readCommandLine("serve", argv, { env: {}, cwd: folder }).then(
    (line) => (line.kind === "run" ? line.warnings.join("\n") : line.kind),
    (error: Error) => error.message,
  );

describe("flags of vLLM", () => {
  it("are all there: 222 of v0.17, 301 of three versions", () => {
    expect(rows.filter(({ isBaseline }) => isBaseline)).toHaveLength(222);
    expect(new Set(rows.map(({ name }) => name)).size).toBe(301);
    expect(rows.map(({ name }) => name).filter((name) => !(name in serve))).toEqual([]);
    // Beside the engine's: the positional, these, and --config.
    expect(Object.keys(serve)).toEqual(
      expect.arrayContaining(["model", "headless", "api-server-count", "config"]),
    );
  });

  it.each(rows)("--$name has vLLM's group, type, short forms and default", (row) => {
    const spec = serve[row.name]!;
    expect(spec, "is in the table").toBeDefined();
    expect(spec.group).toBe(row.group);
    expect(spec.short).toEqual(expect.arrayContaining(row.short));
    const wanted = types.find(([pattern]) => pattern.test(row.type))![1];
    expect([otherTypes[row.name] ?? wanted].flat()).toContain(spec.type);
    const value = literal(row.default);
    if (value === undefined || row.name in otherDefaults) return;
    if (isEmpty(value)) expect(isEmpty(spec.default) || spec.default === false).toBe(true);
    else expect(spec.default).toEqual(value);
  });
});

/** The value of a flag alone, whether it takes effect or not. */
function readAlone(name: string, words: readonly string[]): unknown {
  return parseFlagValue(
    serve[name]!,
    parseArguments(serve, [`--${name}`, ...words]).values.get(name),
  );
}

describe("every flag of serve", () => {
  const all = Object.entries(serve).filter(([name]) => name !== "config");

  it.each(all)("--%s is read, or refused in argparse's words", async (name, spec) => {
    const { good, bad } = casesOf(name);
    for (const { words, value } of good) {
      expect({ words, value: readAlone(name, words) }).toEqual({ words, value });
    }
    const negated = parseArguments.bind(null, serve, [`--no-${name}`]);
    if (spec.type === "bool") expect(negated().values.get(name)).toBe(false);
    else expect(negated).toThrow(`unrecognized arguments: --no-${name}`);
    for (const { words, message } of bad) {
      const said = await outcome(["/m", `--${name}`, ...words]);
      const argument = [`--${name}`, ...spec.short].join("/");
      expect(said.slice(0, `argument ${argument}: ${message}`.length)).toBe(
        `argument ${argument}: ${message}`,
      );
    }
  });

  it.each(all)(
    "--%s takes effect, is warned of or refused, as the table says",
    async (name, spec) => {
      const { words, value } = casesOf(name).good[0]!;
      const said = await outcome(["/m", `--${name}`, ...words]);
      const isHarmless = [spec.default, ...spec.harmless].includes(value as FlagSpec["default"]);
      const { status } = spec;
      if (status.kind === "implemented" || isHarmless) expect(said).not.toContain(`--${name}`);
      else if (status.kind === "accepted") {
        expect(said).toBe(`--${name} has no effect: ${status.reason}.`);
      } else expect(said).toBe(`argument --${name}: not supported: ${status.reason}.`);
    },
  );
});
