import { readFileSync, writeFileSync } from "node:fs";
import { expect, it } from "vitest";
import {
  type CommandName,
  commandInfos,
  type FlagSpec,
  flagGroups,
  flagTable,
  ownFlagsOf,
} from "../../src/cli/flags/index.js";

const path = new URL("../../README.md", import.meta.url).pathname;
const markers = /(<!-- flags: [^>]*-->\n)[\s\S]*(<!-- flags end -->)/;

function row([name, spec]: [string, FlagSpec]): string {
  const names = [`--${name}`, ...spec.short.map((short) => `-${short.replace(/^-+/, "")}`)];
  const type = spec.choices === null ? spec.type : spec.choices.join(", ");
  const notes = spec.status.kind === "implemented" ? spec.help : spec.status.reason;
  const cells = [
    names.map((flag) => `\`${flag}\``).join(" "),
    type,
    spec.default === null
      ? ""
      : `\`${spec.default === Infinity ? "inf" : JSON.stringify(spec.default)}\``,
    notes,
  ];
  return `| ${cells.map((cell) => cell.replace(/\|/g, "\\|").replace(/\s+/g, " ")).join(" | ")} |`;
}

function table(heading: string, rows: [string, FlagSpec][], note: string): string {
  if (rows.length === 0) return "";
  const head = `| flag | values | default | ${note} |\n|---|---|---|---|`;
  return `### ${heading}\n\n${head}\n${rows.map(row).join("\n")}\n\n`;
}

/** Every flag, in the groups of --help; those that do nothing here are listed apart. */
function flagDocs(): string {
  const all = Object.entries(flagTable).sort(([a], [b]) => a.localeCompare(b));
  const of = (kind: string) => all.filter(([, spec]) => spec.status.kind === kind);
  const groups = Object.keys(flagGroups).map((group) =>
    table(
      group,
      of("implemented").filter(([, spec]) => spec.group === group),
      "meaning",
    ),
  );
  const commands = Object.keys(commandInfos) as CommandName[];
  return [
    "\n",
    ...groups,
    ...commands.map((name) =>
      table(
        `\`ucm ${name}\` alone`,
        Object.entries(ownFlagsOf(name)).filter(([, spec]) => spec.status.kind === "implemented"),
        "meaning",
      ),
    ),
    table(
      "Accepted with a warning, as ignoring them changes no result",
      of("accepted"),
      "why it has no effect",
    ),
    table("Refused, as ignoring them would change results", of("refused"), "why"),
  ].join("");
}

it("documents every flag of the table", () => {
  const readme = readFileSync(path, "utf8");
  expect(readme).toMatch(markers);
  const wanted = readme.replace(markers, (_, begin, end) => `${begin}${flagDocs()}${end}`);
  if (process.env.UCM_UPDATE_README) writeFileSync(path, wanted);
  expect(readFileSync(path, "utf8"), "run with UCM_UPDATE_README=1").toBe(wanted);
});
