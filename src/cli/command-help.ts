import {
  type CommandName,
  commandInfos,
  type FlagGroup,
  type FlagSpec,
  type FlagTable,
  flagGroups,
  flagsFor,
  optionStrings,
  usageLine,
} from "./flags/index.js";

const jsonTip = `When passing JSON CLI arguments, the following sets of arguments are equivalent:
   --json-arg '{"key1": "value1", "key2": {"key3": "value2"}}'
   --json-arg.key1 value1 --json-arg.key2.key3 value2

Additionally, list elements can be passed individually using +:
   --json-arg '{"key4": ["value3", "value4", "value5"]}'
   --json-arg.key4+ value3 --json-arg.key4+='value4,value5'`;

function epilog(command: CommandName): string {
  return `For full list:            ucm ${command} --help=all
For a section:            ucm ${command} --help=ModelConfig    (case-insensitive)
For a flag:               ucm ${command} --help=max-model-len  (_ or - accepted)`;
}

/**
 * Text of `--help` (the list of groups), `--help=all`, `--help=<group>` and `--help=<part of a
 * flag's name>`, in the manner of `vllm serve --help`.
 */
export function renderHelp(command: CommandName, topic: string): string {
  const table = flagsFor(command);
  const wanted = topic.trim().toLowerCase();
  if (wanted === "" || wanted === "listgroup") return renderOverview(command, table);
  const groups = groupsOf(table);
  if (wanted === "all" || wanted === "page") {
    const sections = groups.map((group) => renderGroup(group, table));
    return join(usageLine(command), jsonTip, ...sections, epilog(command));
  }
  const group = groups.find((name) => name.toLowerCase() === wanted);
  if (group !== undefined) return join(jsonTip, renderGroup(group, table), epilog(command));
  const part = wanted.replaceAll("_", "-").replace(/^-+/, "");
  const matching = Object.entries(table).filter(([name]) => name.includes(part));
  if (matching.length === 0) {
    return `No group or arguments matching '${topic}'.\nUse '--help' to see available groups or '--help=all' to see all available parameters.`;
  }
  const rows = matching.sort(byName).map(([name, spec]) => renderFlag(name, spec));
  return join(`Arguments matching '${topic}':`, rows.join("\n"), jsonTip);
}

function renderOverview(command: CommandName, table: FlagTable): string {
  const groups = groupsOf(table).map((group) => `  ${group.padEnd(24)}${flagGroups[group]}`);
  return join(
    usageLine(command),
    commandInfos[command].summary,
    ...renderPositional(command),
    `Config Groups:\n${groups.join("\n")}`,
    epilog(command),
  );
}

function renderPositional(command: CommandName): string[] {
  const { positional } = commandInfos[command];
  if (positional === null) return [];
  return [`positional arguments:\n  ${positional.metavar.padEnd(24)}${positional.help}`];
}

function groupsOf(table: FlagTable): FlagGroup[] {
  const used = new Set(Object.values(table).map((spec) => spec.group));
  return (Object.keys(flagGroups) as FlagGroup[]).filter((group) => used.has(group));
}

function renderGroup(group: FlagGroup, table: FlagTable): string {
  const rows = Object.entries(table)
    .filter(([, spec]) => spec.group === group)
    .sort(byName)
    .map(([name, spec]) => renderFlag(name, spec));
  return `${group}:\n  ${flagGroups[group]}\n\n${rows.join("\n")}`;
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
  const shown = typeof spec.default === "object" ? JSON.stringify(spec.default) : spec.default;
  const text = `${spec.help} (default: ${spec.default === null ? "None" : shown})`;
  return `  ${optionStrings(name, spec).join(", ")}${operand}\n${wrap(text, 24, 96)}`;
}

function wrap(text: string, indent: number, width: number): string {
  const lines = [""];
  for (const word of text.split(" ")) {
    const line = lines.at(-1)!;
    if (line !== "" && indent + line.length + 1 + word.length > width) lines.push(word);
    else lines[lines.length - 1] = line === "" ? word : `${line} ${word}`;
  }
  return lines.map((line) => " ".repeat(indent) + line).join("\n");
}

function join(...parts: string[]): string {
  return parts.join("\n\n");
}
