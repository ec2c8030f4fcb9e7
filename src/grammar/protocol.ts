import type { GrammarSpec } from "../messages/index.js";

/** What a grammar thread is started with. */
export interface GrammarVocabulary {
  /** Token by id, each byte written as GPT-2's character for it; empty for tokens that are no text. */
  tokens: readonly string[];
  /** Width of the logits. */
  vocabSize: number;
  /** Tokens that may end the output once the grammar is satisfied; at least one. */
  stopTokenIds: readonly number[];
}

/** A grammar and its name: equal specs have equal names. */
export interface NamedGrammar {
  key: string;
  spec: GrammarSpec;
}

/** `turn` counts the masks of all sequences: an answer has that of its question. */
export type ToGrammarThread =
  | { type: "compile"; grammar: NamedGrammar }
  /** A sequence begins; answered by its first mask. */
  | { type: "open"; seqId: number; turn: number; grammar: NamedGrammar }
  /** It got this token; answered by its next mask. */
  | { type: "advance"; seqId: number; turn: number; tokenId: number }
  | { type: "close"; seqId: number };

/** `isLost`: the failure left the thread in no state to go on. */
export type FromGrammarThread =
  /** `error` says what is wrong with the grammar, null when nothing is. */
  | { type: "compiled"; key: string; error: string | null; isLost: boolean }
  | { type: "mask"; seqId: number; turn: number; mask: Int32Array }
  | { type: "broken"; seqId: number; turn: number; error: string; isLost: boolean };
