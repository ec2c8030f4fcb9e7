import { existsSync, readFileSync } from "node:fs";
import { resolve } from "node:path";
import { describe, expect, it } from "vitest";
import { readCommandLine } from "../../../src/cli/command-flags.js";
import { type FlagSpec, type FlagType, flagsFor } from "../../../src/cli/flags/index.js";
import { makeTempFolder } from "../../helpers/temp-folder.js";
import { root } from "../../helpers/ucm-command.js";

const path = resolve(root, "../shared/reference/vllm-flags.md");
const isThere = existsSync(path);
if (!isThere) console.warn(`Skipping the rows of vLLM's flags: there is no ${path}.`);

interface Row {
  name: string;
  short: string[];
  group: string;
  type: string;
  default: string;
}

/** Flag, group, type and default of a table with the defaults of three versions. */
function readRow(line: string): Row {
  const cells = line.split("|").map((cell) => cell.trim());
  const [, flag = "", group = "", type = "", oldest = "", baseline = "", newest = ""] = cells;
  const [name = "", ...aliases] = [...flag.matchAll(/`--?([^`]+)`/g)].map(([, option]) => option!);
  const present = [baseline, newest, oldest].find((value) => value !== "—") ?? "None";
  const short = aliases.map((alias) => `-${alias}`);
  return { name: name.replace(/^-+/, ""), short, group, type, default: present };
}

const rows = isThere
  ? readFileSync(path, "utf8")
      .split("\n")
      .filter((line) => line.startsWith("| `--"))
      .map(readRow)
  : [];

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
  "ignore-patterns": "files are chosen by what the engine reads",
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

/** Words that fit a flag and words that do not; null where every text fits. */
function examples(spec: FlagSpec): { good: string[]; bad: string[] | null } {
  if (spec.choices !== null) return { good: [spec.choices[0]!], bad: ["no-such-choice"] };
  const number = String(Math.min(Math.max(7, spec.min), spec.max));
  const byType: Record<FlagType, { good: string[]; bad: string[] | null }> = {
    string: { good: ["word"], bad: null },
    append: { good: ["word"], bad: null },
    stringList: { good: ["a", "b"], bad: null },
    bool: { good: [], bad: null },
    switch: { good: [], bad: null },
    int: { good: [number], bad: ["1.5"] },
    float: { good: ["0.5"], bad: ["much"] },
    rate: { good: ["inf"], bad: ["0"] },
    humanInt: { good: ["4K"], bad: ["1.5K"] },
    humanIntOrAuto: { good: ["auto"], bad: ["4X"] },
    intList: { good: ["1", "2"], bad: ["1", "b"] },
    json: { good: ['{"a": 1}'], bad: ["[1]"] },
    jsonList: { good: ['["a"]'], bad: ["a"] },
  };
  return byType[spec.type];
}

const folder = makeTempFolder();
const outcome = (argv: string[]) =>
  readCommandLine("serve", argv, { env: {}, cwd: folder }).then(
    (line) => (line.kind === "run" ? line.warnings.join("\n") : line.kind),
    (error: Error) => error.message,
  );

describe.runIf(isThere)("flags of vLLM", () => {
  it("are as many as the reference has", () => {
    expect(rows.length).toBeGreaterThan(300);
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

describe("every flag of serve", () => {
  const own = Object.entries(serve).filter(([name]) => name !== "config");
  it.each(own)("--%s is taken, warned of or refused, in argparse's words", async (name, spec) => {
    const { good, bad } = examples(spec);
    const said = await outcome(["/m", `--${name}`, ...good]);
    const isHarmless = [spec.default, ...spec.harmless].includes(
      good.length === 0 ? true : good[0]!,
    );
    const { kind } = spec.status;
    if (kind === "implemented" || isHarmless) expect(said).not.toContain(`--${name}`);
    else if (kind === "accepted") expect(said).toMatch(`--${name} has no effect: `);
    else expect(said).toMatch(`argument --${name}: not supported: `);
    if (bad !== null) {
      expect(await outcome(["/m", `--${name}`, ...bad])).toMatch(
        new RegExp(`^argument --${name}[^:]*: (invalid|Value|Decimals)`),
      );
    }
    const bare = await outcome(["/m", `--${name}`]);
    const needsValue = !["bool", "switch"].includes(spec.type) && spec.bare === null;
    if (needsValue) expect(bare).toMatch(/: expected (one|at least one) argument$/);
    else expect(bare).not.toContain("expected");
  });
});
