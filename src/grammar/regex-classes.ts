import { either, quoteInJson, quoteLiteral } from "./ebnf.js";
import { GrammarError } from "./grammar-errors.js";

/** Characters that a place of a regular expression takes. */
export interface CharacterSet {
  /** By code, below 128. */
  ascii: ReadonlySet<number>;
  /** Code points above; "all" is every one of them. */
  beyond: ReadonlySet<number> | "all";
}

/** xgrammar takes classes for bytes, so these are written one by one. */
const MAX_BEYOND = 512;
const FIRST_PRINTABLE = 0x20;

const codes = (from: number, to: number) =>
  Array.from({ length: to - from + 1 }, (_, i) => from + i);
const codesOf = (text: string) => [...text].map((character) => character.codePointAt(0)!);

const digits = codesOf("0123456789");
const words = [...digits, ...codes(0x41, 0x5a), ...codes(0x61, 0x7a), 0x5f];
const spaces = codesOf(" \t\n\r\v\f");

const none: ReadonlySet<number> = new Set();

export function setOf(points: readonly number[]): CharacterSet {
  const beyond = points.filter((point) => point > 127);
  if (beyond.length > MAX_BEYOND) {
    throw new GrammarError(`a class of more than ${MAX_BEYOND} characters beyond ASCII`);
  }
  return { ascii: new Set(points.filter((point) => point <= 127)), beyond: new Set(beyond) };
}

/** All but those; control characters, which nobody asks for by leaving others out, are none of them. */
function complement({ ascii, beyond }: CharacterSet): CharacterSet {
  if (beyond === "all" || beyond.size > 0) {
    throw new GrammarError("a negated class with characters beyond ASCII is not supported");
  }
  const rest = codes(FIRST_PRINTABLE, 127).filter((code) => !ascii.has(code));
  return { ascii: new Set(rest), beyond: "all" };
}

export const anyButLineEnds = complement(setOf([]));

const shorthands: Readonly<Record<string, CharacterSet>> = {
  d: setOf(digits),
  w: setOf(words),
  s: setOf(spaces),
  D: complement(setOf(digits)),
  W: complement(setOf(words)),
  // Some characters beyond ASCII are spaces.
  S: { ...complement(setOf(spaces)), beyond: none },
};

/** The set of \d and its like, null for another letter. */
export function shorthand(letter: string): CharacterSet | null {
  return Object.hasOwn(shorthands, letter) ? shorthands[letter]! : null;
}

export function union(sets: readonly CharacterSet[]): CharacterSet {
  const all = sets.some(({ beyond }) => beyond === "all");
  return {
    ascii: new Set(sets.flatMap(({ ascii }) => [...ascii])),
    beyond: all ? "all" : new Set(sets.flatMap(({ beyond }) => [...(beyond as Set<number>)])),
  };
}

export function negate(set: CharacterSet): CharacterSet {
  // [^\S] and the like: what is left of ASCII is enough.
  return set.beyond === "all"
    ? { ascii: complement({ ascii: set.ascii, beyond: none }).ascii, beyond: none }
    : complement(set);
}

/** EBNF of one character of the set, as it is or as it is written within a JSON string. */
export function writeSet({ ascii, beyond }: CharacterSet, inJson: boolean): string {
  const isPlain = (code: number) => code >= FIRST_PRINTABLE && code !== 0x22 && code !== 0x5c;
  const plain = [...ascii].filter(isPlain);
  const others = [...ascii].filter((code) => !isPlain(code));
  const quote = inJson ? quoteInJson : quoteLiteral;
  const parts = [
    ...(plain.length === 0 ? [] : [`[${plain.map(escapeInClass).join("")}]`]),
    ...others.map((code) => quote(String.fromCharCode(code))),
    ...(beyond === "all"
      ? ["[^\\0-\\x7f]"]
      : [...beyond].map((point) => quote(String.fromCodePoint(point)))),
  ];
  if (parts.length === 0) throw new GrammarError("a class without characters");
  return either(parts);
}

function escapeInClass(code: number): string {
  return `\\x${code.toString(16).padStart(2, "0")}`;
}
