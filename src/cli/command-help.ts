import {
  type CommandName,
  commandInfos,
  type FlagGroup,
  type FlagSpec,
  type FlagTable,
  flagGroups,
  flagsFor,
  optionStrings,
  readsConfigFiles,
  usageLine,
} from "./flags/index.js";

const jsonTip = `When passing JSON CLI arguments, the following sets of arguments are equivalent:
   --json-arg '{"key1": "value1", "key2": {"key3": "value2"}}'
   --json-arg.key1 value1 --json-arg.key2.key3 value2

Additionally, list elements can be passed individually using +:
   --json-arg '{"key4": ["value3", "value4", "value5"]}'
   --json-arg.key4+ value3 --json-arg.key4+='value4,value5'`;

/** Columns of the terminal, as argparse sees it: COLUMNS, the terminal, else 80; never very wide. */
function helpWidth(): number {
  const columns = Number(process.env.COLUMNS) || process.stdout.columns || 80;
  return Math.max(40, Math.min(columns, 100));
}

/** Where descriptions of flags begin, and those of shorter lists. */
const INDENT = 24;
const LIST_INDENT = 26;

/** Where to read more; nothing for a command whose --help shows all. */
function epilog(command: CommandName): string[] {
  if (!readsConfigFiles(command)) return [];
  return [
    `For full list:   ucm ${command} --help=all
For a section:   ucm ${command} --help=ModelConfig   (case-insensitive)
For a flag:      ucm ${command} --help=max-model-len (_ or - accepted)`,
  ];
}

/**
 * Text of `--help` (the usual flags and the list of groups; all flags of a command that has few),
 * `--help=all`, `--help=<group>` and `--help=<part of a flag's name>`, in the manner of
 * `vllm serve --help`.
 */
export function renderHelp(command: CommandName, topic: string): string {
  const table = flagsFor(command);
  const wanted = topic.trim().toLowerCase();
  if (wanted === "" || wanted === "listgroup") return renderOverview(command, table);
  const groups = groupsOf(table);
  if (wanted === "all" || wanted === "page") {
    const sections = groups.map((group) => renderGroup(group, table));
    return join(usageLine(command), ...sections, ...jsonTips(table), ...epilog(command));
  }
  const group = groups.find((name) => name.toLowerCase() === wanted);
  if (group !== undefined) {
    return join(renderGroup(group, table), ...jsonTips(rowsOf(group, table)), ...epilog(command));
  }
  const part = wanted.replaceAll("_", "-").replace(/^-+/, "");
  const matching = Object.entries(table).filter(([name]) => name.includes(part));
  if (matching.length === 0) {
    return `No group or arguments matching '${topic}'.\nUse '--help' to see available groups or '--help=all' to see all available parameters.`;
  }
  const rows = matching.sort(byName).map(([name, spec]) => renderFlag(name, spec));
  return join(
    `Arguments matching '${topic}':`,
    rows.join("\n"),
    ...jsonTips(Object.fromEntries(matching)),
  );
}

function renderOverview(command: CommandName, table: FlagTable): string {
  const { summary, examples = [] } = commandInfos[command];
  return join(
    usageLine(command),
    summary,
    ...renderPositional(command),
    ...(readsConfigFiles(command)
      ? renderIndex(command, table)
      : groupsOf(table).map((group) => renderGroup(group, table))),
    ...(examples.length === 0
      ? []
      : [`Examples:\n${examples.map((line) => `  ${line}`).join("\n")}`]),
    ...epilog(command),
  );
}

/** The usual flags, then the groups; those in which nothing takes effect in a line of their own. */
function renderIndex(command: CommandName, table: FlagTable): string[] {
  const common = (commandInfos[command].common ?? []).map((name) => renderFlag(name, table[name]!));
  const takesEffect = (group: FlagGroup) =>
    Object.values(rowsOf(group, table)).some(({ status }) => status.kind === "implemented");
  const groups = groupsOf(table);
  const shown = groups.filter(takesEffect).map((group) => columns(group, flagGroups[group]));
  const idle = groups.filter((group) => !takesEffect(group)).join(", ");
  return [
    `Flags most used:\n${common.join("\n")}`,
    `Config Groups:\n${shown.join("\n")}`,
    ...(idle === "" ? [] : [`${wrap(`Of vLLM, without effect here: ${idle}.`, 2).trimEnd()}`]),
  ];
}

function renderPositional(command: CommandName): string[] {
  const { positional } = commandInfos[command];
  if (positional === null) return [];
  return [`positional arguments:\n${columns(positional.metavar, positional.help)}`];
}

/** A name and its description beside it. */
function columns(name: string, text: string): string {
  return `  ${name.padEnd(LIST_INDENT - 2)}${wrap(text, LIST_INDENT).slice(LIST_INDENT)}`;
}

function groupsOf(table: FlagTable): FlagGroup[] {
  const used = new Set(Object.values(table).map((spec) => spec.group));
  return (Object.keys(flagGroups) as FlagGroup[]).filter((group) => used.has(group));
}

function rowsOf(group: FlagGroup, table: FlagTable): FlagTable {
  return Object.fromEntries(
    Object.entries(table)
      .filter(([, spec]) => spec.group === group)
      .sort(byName),
  );
}

/** The flags that work, then the others by the reason why they do not. */
function renderGroup(group: FlagGroup, table: FlagTable): string {
  const rows = Object.entries(rowsOf(group, table));
  const working = rows.filter(([, { status }]) => status.kind === "implemented");
  const idle = new Map<string, string[]>();
  for (const [name, { status }] of rows) {
    if (status.kind === "implemented") continue;
    const verdict = status.kind === "accepted" ? "No effect" : "Not supported";
    const heading = `${verdict}: ${status.reason}`;
    idle.set(heading, [...(idle.get(heading) ?? []), `--${name}`]);
  }
  return join(
    `${group}:\n  ${flagGroups[group]}`,
    ...(working.length === 0
      ? []
      : [working.map(([name, spec]) => renderFlag(name, spec)).join("\n")]),
    ...[...idle].map(
      ([heading, names]) => `${wrap(`${heading}:`, 2)}\n${wrap(names.join(" "), 6)}`,
    ),
  );
}

function byName([left]: [string, unknown], [right]: [string, unknown]): number {
  return left < right ? -1 : 1;
}

function renderFlag(name: string, spec: FlagSpec): string {
  const isToggle = spec.type === "bool" || spec.type === "switch";
  const metavar = name.toUpperCase().replaceAll("-", "_");
  const values = spec.choices === null ? metavar : `{${spec.choices.join(",")}}`;
  const isList = spec.type === "stringList" || spec.type === "intList";
  const operand = isToggle ? "" : ` ${values}${isList ? ` [${values} ...]` : ""}`;
  const head = `  ${optionStrings(name, spec).join(", ")}${operand}`;
  const text = wrap(describe(spec), INDENT);
  // As argparse does: beside the flag where there is room, else below it.
  return head.length <= INDENT - 2 ? head.padEnd(INDENT) + text.slice(INDENT) : `${head}\n${text}`;
}

/** The help text, and the default unless the text tells it or the flag does nothing. */
function describe({ help, default: value, status }: FlagSpec): string {
  if (status.kind !== "implemented" || /\bDefault\b/.test(help)) return help;
  const shown = typeof value === "object" ? JSON.stringify(value) : value;
  return `${help} (default: ${value === null ? "None" : shown})`;
}

function jsonTips(table: FlagTable): string[] {
  return Object.values(table).some(({ type }) => type === "json") ? [jsonTip] : [];
}

function wrap(text: string, indent: number): string {
  const lines = [""];
  for (const word of text.split(" ")) {
    const line = lines.at(-1)!;
    if (line !== "" && indent + line.length + 1 + word.length > helpWidth()) lines.push(word);
    else lines[lines.length - 1] = line === "" ? word : `${line} ${word}`;
  }
  return lines.map((line) => " ".repeat(indent) + line).join("\n");
}

function join(...parts: string[]): string {
  return parts.join("\n\n");
}

/** Text of `ucm --help`: every command, in the order of its table, and where to begin. */
export function renderRootHelp(commands: readonly { name: string; summary: string }[]): string {
  const examples = [
    "ucm serve Qwen/Qwen2.5-0.5B-Instruct    # from the hub, on port 8000",
    "ucm chat                                # talk to it, in another terminal",
    'ucm offline --prompt "Once upon a time" # an answer without a server',
  ];
  return join(
    "usage: ucm [-h] [-v] <command> ...",
    "Serves large language models whose KV cache outgrows the accelerator.",
    `Commands:\n${commands.map(({ name, summary }) => columns(name, summary)).join("\n")}`,
    `Options:\n${columns("-h, --help", "Print this.")}\n${columns("-v, --version", "Print the version.")}`,
    `Examples:\n${examples.map((line) => `  ${line}`).join("\n")}`,
    "Flags of a command: ucm <command> --help\n",
  );
}
