/** What the text of a sequence must match, from its first character to its last. */
export type GrammarSpec =
  /** A JSON value of this schema, given as JSON text. */
  | { kind: "json"; schema: string; anyWhitespace: boolean }
  /** Any JSON object. */
  | { kind: "json_object" }
  /** The whole text matches this regular expression. */
  | { kind: "regex"; pattern: string }
  | { kind: "choice"; choices: readonly string[] }
  /** EBNF with the rule `root`, in GBNF's notation. */
  | { kind: "grammar"; ebnf: string }
  /** xgrammar's description of tags in free text, as JSON text. */
  | { kind: "structural_tag"; tag: string };

/** A grammar that holds for the output, or for what follows one token of it. */
export interface OutputGrammar {
  spec: GrammarSpec;
  /** Output up to and with this token is free, such as that of a reasoning model; null for none. */
  afterTokenId: number | null;
}
