/** Pieces of xgrammar's EBNF. */

/** A text that stands for itself: JSON's escapes but two, which are written as numbers. */
export function quoteLiteral(text: string): string {
  return JSON.stringify(text).replace(/\\[\\bf]/g, (pair) => numericEscapes[pair] ?? pair);
}

const numericEscapes: Record<string, string> = { "\\b": "\\u0008", "\\f": "\\u000C" };

/** The text as it is within a JSON string. */
export function quoteInJson(text: string): string {
  return quoteLiteral(JSON.stringify(text).slice(1, -1));
}

export function either(parts: readonly string[]): string {
  return parts.length === 1 ? parts[0]! : `(${parts.join(" | ")})`;
}

/** Name and rule of one character of a JSON string, written as it is or as an escape, half pairs apart. */
export const JSON_CHARACTER = "json_string_character";
export const jsonCharacterRule =
  `${JSON_CHARACTER} ::= [^\\"\\\\\\0-\\x1f] | "\\\\" ([\\"\\\\/bfnrt] | "u" ` +
  "([0-9a-cefA-CEF] [0-9a-fA-F]{3,3} | [dD] [0-7] [0-9a-fA-F]{2,2}))";

/** A JSON string of `min` to `max` characters; null is no limit. */
export function stringOfLength(min: number, max: number | null): string {
  return `"\\"" ${JSON_CHARACTER}{${min},${max ?? ""}} "\\""`;
}
