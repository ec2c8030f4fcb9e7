import { either, JSON_CHARACTER, quoteInJson } from "./ebnf.js";
import { GrammarError } from "./grammar-errors.js";

interface Node {
  isName: boolean;
  next: Map<string, Node>;
}

/** EBNF of JSON strings that are none of the names; the first character that differs is no escape. */
export function otherNames(names: readonly string[]): string {
  const root: Node = { isName: false, next: new Map() };
  for (const name of names) {
    let node = root;
    for (const character of name) {
      const known = node.next.get(character) ?? { isName: false, next: new Map() };
      node.next.set(character, known);
      node = known;
    }
    node.isName = true;
  }
  return `"\\"" ${write(root)} "\\""`;
}

function write({ isName, next }: Node): string {
  const parts = isName ? [] : ['""'];
  const taken = [...next.keys()].map((character) => character.codePointAt(0)!);
  const isPlain = (code: number) => code !== 0x22 && code !== 0x5c && !taken.includes(code);
  const free = Array.from({ length: 0x5f }, (_, i) => i + 0x20).filter(isPlain);
  if (free.length > 0) {
    const codes = free.map((code) => `\\x${code.toString(16)}`).join("");
    parts.push(`[${codes}] ${JSON_CHARACTER}*`);
  }
  // A class of characters beyond ASCII cannot leave single ones out.
  if (taken.every((code) => code < 128)) parts.push(`[^\\0-\\x7f] ${JSON_CHARACTER}*`);
  for (const [character, node] of next) parts.push(`${quoteInJson(character)} ${write(node)}`);
  return either(parts);
}

/** What the library writes before the value of a further property. */
const COLON = String.raw`(?: \[ \\n\\t\]\* ":" \[ \\n\\t\]\*| ": ")`;

/**
 * Gives the names of further properties their own grammar: the library's takes every string, also the
 * name of a property that has a schema of its own. `mark` is the constant that was made an alternative
 * of the further properties' values, and goes again.
 */
export function bindOtherNames(grammar: string, mark: string, names: string): string {
  const [, rule] =
    new RegExp(`^(\\w+)_case_1 ::= \\(\\("\\\\"${mark}\\\\""\\)\\)$`, "m").exec(grammar) ?? [];
  const key = new RegExp(`\\bbasic_string(${COLON}) ${rule}\\b`, "g");
  if (rule === undefined || !key.test(grammar)) {
    throw new GrammarError("further properties beside those that are named cannot be told apart");
  }
  return grammar
    .replace(key, (_, colon: string) => `(${names})${colon} ${rule}`)
    .replace(` | (${rule}_case_1)`, "");
}
