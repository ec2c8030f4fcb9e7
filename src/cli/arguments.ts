import { nearestName } from "../config/nearest-name.js";
import { UcmError } from "../errors/index.js";
import { isPlainObject, parseFlagValue, ValueProblem } from "./flag-value.js";
import { type FlagSpec, type FlagTable, optionStrings } from "./flags/index.js";

/** The command line after normalising: raw values by flag name, not yet of their types. */
export interface ParsedArguments {
  /** Text, list of texts, boolean, or object for dotted JSON keys. */
  values: Map<string, unknown>;
  positional: string | null;
  /** Text after --help=, empty for plain --help, null without. */
  help: string | null;
  warnings: string[];
}

/** An option string that was understood. */
interface Option {
  name: string;
  spec: FlagSpec;
  negated: boolean;
  /** Path after the flag's name: `.a.b`, or empty. */
  path: string;
}

/**
 * Normalises a command line as vLLM's parser does: `_` = `-` up to the first dot, unique prefixes,
 * `--x/--no-x`, `--x=v`, dotted JSON keys with `+`, -O3, lists, last of duplicates wins. Throws
 * UCM_ERR_USAGE with argparse's words.
 */
export function parseArguments(
  table: FlagTable,
  argv: readonly string[],
  takesPositional = true,
): ParsedArguments {
  return new ArgumentParser(table, argv, takesPositional).parse();
}

class ArgumentParser {
  private readonly table: FlagTable;
  private readonly queue: string[];
  /** Every option string, long and short, to its flag. */
  private readonly options = new Map<string, string>();
  private readonly result: ParsedArguments = {
    values: new Map(),
    positional: null,
    help: null,
    warnings: [],
  };
  private readonly dotted = new Map<string, Record<string, unknown>>();
  private readonly unrecognized: string[] = [];
  private readonly duplicates = new Set<string>();

  private readonly takesPositional: boolean;

  constructor(table: FlagTable, argv: readonly string[], takesPositional: boolean) {
    this.table = table;
    this.takesPositional = takesPositional;
    this.queue = [...argv];
    for (const [name, spec] of Object.entries(table)) {
      for (const option of optionStrings(name, spec)) this.options.set(option, name);
    }
  }

  parse(): ParsedArguments {
    for (let token = this.queue.shift(); token !== undefined; token = this.queue.shift()) {
      if (token === "--") {
        for (const operand of this.queue.splice(0)) this.takeOperand(operand);
      } else if (isOption(token)) {
        this.takeOption(token);
      } else {
        this.takeOperand(token);
      }
    }
    this.mergeDotted();
    if (this.result.help === null && this.unrecognized.length > 0) throw this.unrecognizedError();
    if (this.duplicates.has("--config")) throw usage("More than one config file specified!");
    if (this.duplicates.size > 0) {
      this.result.warnings.push(`Found duplicate keys ${[...this.duplicates].join(", ")}`);
    }
    return this.result;
  }

  private takeOperand(token: string): void {
    if (this.takesPositional && this.result.positional === null) this.result.positional = token;
    else this.unrecognized.push(token);
  }

  private takeOption(token: string): void {
    const equals = token.indexOf("=");
    const written = equals < 0 ? token : token.slice(0, equals);
    const inline = equals < 0 ? null : token.slice(equals + 1);
    if (written === "--help" || written === "-h") {
      this.result.help = inline ?? "";
      return;
    }
    const level = /^-O(\d+)$/.exec(token)?.[1];
    const option = this.resolve(level === undefined ? written : "-O");
    if (option === null) {
      this.unrecognized.push(token, ...this.takeOperands());
      return;
    }
    if (option.path !== "") this.storeDotted(option, inline);
    else this.store(option, level ?? inline);
  }

  /** Finds the flag that an option string means; null when there is none. */
  private resolve(written: string): Option | null {
    const dot = written.indexOf(".");
    const head = (dot < 0 ? written : written.slice(0, dot)).replaceAll("_", "-");
    const path = dot < 0 ? "" : written.slice(dot + 1);
    const exact = this.options.get(head);
    const match = exact === undefined ? this.expandPrefix(head) : head;
    const name = match === null ? undefined : this.options.get(match);
    const spec = name === undefined ? undefined : this.table[name];
    if (match === null || name === undefined || spec === undefined) return null;
    if (path !== "" && spec.type !== "json") return null;
    return { name, spec, negated: match === `--no-${name}`, path };
  }

  private expandPrefix(head: string): string | null {
    if (head.length < (head.startsWith("--") ? 3 : 2)) return null;
    const matches = [...this.options.keys()].filter((option) => option.startsWith(head));
    if (matches.length > 1) {
      throw usage(`ambiguous option: ${head} could match ${matches.sort().join(", ")}`);
    }
    return matches[0] ?? null;
  }

  private store(option: Option, inline: string | null): void {
    const { name, spec } = option;
    const { values } = this.result;
    if (spec.type === "append") {
      const earlier = (values.get(name) as string[] | undefined) ?? [];
      values.set(name, [...earlier, this.takeValue(option, inline)]);
      return;
    }
    if (values.has(name)) this.duplicates.add(`--${name}`);
    if (spec.type === "bool" || spec.type === "switch") {
      if (inline !== null) throw argumentError(option, `ignored explicit argument '${inline}'`);
      values.set(name, !option.negated);
    } else if (spec.type === "stringList" || spec.type === "intList") {
      const list = inline === null ? this.takeOperands() : [inline];
      if (list.length === 0) throw argumentError(option, "expected at least one argument");
      values.set(name, list.length === 1 && list[0] === "None" ? null : list);
    } else {
      values.set(name, this.takeValue(option, inline, spec.bare));
    }
  }

  /** The value of an option: after `=`, the next word, or `bare` where neither is there. */
  private takeValue(option: Option, inline: string | null, bare: string | null = null): string {
    if (inline !== null) return inline;
    const next = this.queue[0];
    if (next === undefined || isOption(next)) {
      if (bare !== null) return bare;
      throw argumentError(option, "expected one argument");
    }
    this.queue.shift();
    return next;
  }

  private takeOperands(): string[] {
    const end = this.queue.findIndex((token) => isOption(token));
    return this.queue.splice(0, end < 0 ? this.queue.length : end);
  }

  private storeDotted(option: Option, inline: string | null): void {
    const text = this.takeValue(option, inline);
    const appends = option.path.endsWith("+");
    const keys = (appends ? option.path.slice(0, -1) : option.path).split(".");
    let node = this.dotted.get(option.name) ?? {};
    this.dotted.set(option.name, node);
    for (const key of keys.slice(0, -1)) {
      const child = Object.hasOwn(node, key) ? node[key] : undefined;
      const next: Record<string, unknown> = isPlainObject(child) ? child : {};
      setOwn(node, key, next);
      node = next;
    }
    const last = keys.at(-1)!;
    const earlier = Object.hasOwn(node, last) ? node[last] : undefined;
    const list = Array.isArray(earlier) ? earlier : [];
    setOwn(node, last, appends ? [...list, ...text.split(",")] : jsonOrText(text));
  }

  /** Dotted keys go over the flag's own JSON, if both are given. */
  private mergeDotted(): void {
    for (const [name, overrides] of this.dotted) {
      const spec = this.table[name]!;
      const text = this.result.values.get(name);
      try {
        const base = text === undefined ? {} : parseFlagValue(spec, text);
        this.result.values.set(name, mergeObjects(isPlainObject(base) ? base : {}, overrides));
      } catch (error) {
        if (!(error instanceof ValueProblem)) throw error;
        throw argumentError({ name, spec }, error.message);
      }
    }
  }

  private unrecognizedError(): UcmError {
    const first = this.unrecognized.find((token) => token.startsWith("-"));
    const head = first?.split(/[=.]/)[0]?.replaceAll("_", "-");
    const suggestion = head === undefined ? null : nearestName(head, this.options.keys());
    const hint = suggestion === null ? "" : `\nDid you mean ${suggestion}?`;
    return usage(`unrecognized arguments: ${this.unrecognized.join(" ")}${hint}`);
  }
}

/** As argparse sees it: a dash and more, but neither a negative number nor words with spaces. */
function isOption(token: string): boolean {
  if (!token.startsWith("-") || token.length < 2 || /^-(\d|\.\d)/.test(token)) return false;
  const head = token.split("=")[0]!;
  return !/\s/.test(head);
}

function jsonOrText(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

/** Plain assignment would take `__proto__` for the prototype. */
function setOwn(target: Record<string, unknown>, key: string, value: unknown): void {
  Object.defineProperty(target, key, {
    value,
    enumerable: true,
    writable: true,
    configurable: true,
  });
}

function mergeObjects(
  base: Record<string, unknown>,
  overrides: Record<string, unknown>,
): Record<string, unknown> {
  const merged = { ...base };
  for (const [key, value] of Object.entries(overrides)) {
    const earlier = Object.hasOwn(merged, key) ? merged[key] : undefined;
    const both = isPlainObject(earlier) && isPlainObject(value);
    setOwn(merged, key, both ? mergeObjects(earlier, value) : value);
  }
  return merged;
}

function usage(message: string): UcmError {
  return new UcmError("UCM_ERR_USAGE", message);
}

/** argparse's error for one flag, `argument --x/-y: …`. */
export function argumentError(
  flag: { name: string; spec: FlagSpec },
  problem: string,
  source = "",
): UcmError {
  const names = optionStrings(flag.name, flag.spec).join("/");
  const where = source === "" ? "" : ` (${source})`;
  return new UcmError("UCM_ERR_USAGE", `argument ${names}${where}: ${problem}`, {
    param: flag.name,
  });
}
