export interface ChatMessage {
  role: string;
  content: string | { type: string; text?: string }[] | null;
  [field: string]: unknown;
}

export interface ChatTemplateOptions {
  /** Ends the prompt where the assistant begins; default true, unless the final message goes on. */
  addGenerationPrompt?: boolean;
  /** Leaves the final message open, for the model to continue. */
  continueFinalMessage?: boolean;
  tools?: unknown[];
  /** Name of one of the model's templates, or the text of another. */
  chatTemplate?: string;
  /** The template is a client's: it may not take long, nor make much. */
  isUntrusted?: boolean;
  /** Extra variables for the template. */
  kwargs?: Record<string, unknown>;
}

/** Text to token ids and back, for one model folder. Pure once loaded; safe to share. */
export interface Tokenizer {
  /** Number of ids, added tokens included (may be smaller than the model's padded vocabulary). */
  readonly vocabSize: number;
  readonly bosTokenId: number | null;
  readonly eosTokenId: number | null;
  /** `addSpecialTokens` (default true) adds BOS and the like; false for rendered chat templates. */
  encode(text: string, options?: { addSpecialTokens?: boolean }): number[];
  /** `skipSpecialTokens` defaults to false. Ids outside the vocabulary stand for no text. */
  decode(tokenIds: readonly number[], options?: { skipSpecialTokens?: boolean }): string;
  /** The bytes that a token stands for; none for an id outside the vocabulary. */
  bytesOf(tokenId: number): Uint8Array;
  /** The token as written in the vocabulary, null for an id outside it. */
  idToToken(tokenId: number): string | null;
  isSpecial(tokenId: number): boolean;
  readonly hasChatTemplate: boolean;
  /** Renders messages to prompt text; UCM_ERR_INVALID_REQUEST when the template refuses. */
  applyChatTemplate(messages: ChatMessage[], options?: ChatTemplateOptions): string;
  /** A fresh incremental detokenizer that continues after `promptTokenIds`. */
  detokenizer(
    promptTokenIds: readonly number[],
    options: { skipSpecialTokens: boolean },
  ): IncrementalDetokenizer;
}

/** Turns a stream of tokens into text that never ends in half a character. */
export interface IncrementalDetokenizer {
  /** The text that became certain with this token; may be empty. */
  push(tokenId: number): string;
  /** What is still held back, when no more tokens will come. */
  flush(): string;
}
