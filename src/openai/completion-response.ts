import type { ChoiceDelta, ResponseHead } from "./choice.js";
import {
  type CompletionLogprobs,
  completionLogprobs,
  type PromptLogprobsShape,
  promptLogprobs,
  type TokenScores,
  type TokenText,
} from "./logprobs.js";
import type { Usage } from "./usage.js";

/** The prompt of a choice, as far as responses may show it. */
export interface CompletionPrompt {
  /** What echo repeats. */
  text: string;
  tokenIds: readonly number[];
  /** One per prompt token, null for the first; null when not asked for. */
  logprobs: readonly (TokenScores | null)[] | null;
}

/** How the choices of a request are to be shaped. */
export interface CompletionStyle {
  echo: boolean;
  /** Show the prompt alone, nothing generated. */
  echoOnly: boolean;
  logprobs: boolean;
  promptLogprobs: boolean;
  returnTokenIds: boolean;
  tokenText: TokenText;
}

interface ShapedDelta {
  index: number;
  text: string;
  logprobs: CompletionLogprobs | null;
  finish_reason: string | null;
  stop_reason: string | number | null;
}

/** A choice of a streamed part. */
export interface CompletionChunkChoice extends ShapedDelta {
  prompt_token_ids: readonly number[] | null;
  token_ids: readonly number[] | null;
}

/** A choice of a whole response. */
export interface CompletionChoice extends ShapedDelta {
  token_ids: readonly number[] | null;
  prompt_logprobs: PromptLogprobsShape | null;
  prompt_token_ids: readonly number[] | null;
}

/**
 * Shapes what is generated for one choice, in one piece or in many: the echoed prompt goes before
 * the first piece, and text offsets run on from piece to piece.
 */
export class CompletionChoiceShaper {
  readonly #index: number;
  readonly #style: CompletionStyle;
  readonly #prompt: CompletionPrompt;
  #started = false;
  #offset = 0;

  constructor(index: number, prompt: CompletionPrompt, style: CompletionStyle) {
    this.#index = index;
    this.#prompt = prompt;
    this.#style = style;
  }

  /** The next piece of a stream. */
  chunk(delta: ChoiceDelta): CompletionChunkChoice {
    const isFirst = !this.#started;
    const shaped = this.#shape(delta);
    const { returnTokenIds } = this.#style;
    return {
      ...shaped,
      prompt_token_ids: returnTokenIds && isFirst ? this.#prompt.tokenIds : null,
      token_ids: returnTokenIds ? this.#generated(delta).tokenIds : null,
    };
  }

  /** The whole choice, from everything that was generated. */
  whole(delta: ChoiceDelta): CompletionChoice {
    const { returnTokenIds, promptLogprobs: wanted, tokenText } = this.#style;
    const { logprobs, tokenIds } = this.#prompt;
    return {
      ...this.#shape(delta),
      token_ids: returnTokenIds ? this.#generated(delta).tokenIds : null,
      prompt_logprobs: wanted && logprobs !== null ? promptLogprobs(logprobs, tokenText) : null,
      prompt_token_ids: returnTokenIds ? tokenIds : null,
    };
  }

  #shape(delta: ChoiceDelta): ShapedDelta {
    const { text, tokenIds, scores } = this.#withEcho(this.#generated(delta));
    this.#started = true;
    return {
      index: this.#index,
      text,
      logprobs: this.#style.logprobs ? this.#logprobs(tokenIds, scores) : null,
      finish_reason: delta.finishReason,
      stop_reason: delta.stopReason,
    };
  }

  #generated({ text, tokenIds, logprobs }: ChoiceDelta): Piece {
    if (this.#style.echoOnly) return { text: "", tokenIds: [], scores: [] };
    return { text, tokenIds, scores: logprobs ?? [] };
  }

  #withEcho(piece: Piece): Piece {
    if (!this.#style.echo || this.#started) return piece;
    const { text, tokenIds, logprobs } = this.#prompt;
    return {
      text: text + piece.text,
      tokenIds: [...tokenIds, ...piece.tokenIds],
      scores: [...(logprobs ?? tokenIds.map(() => null)), ...piece.scores],
    };
  }

  #logprobs(tokenIds: readonly number[], scores: Piece["scores"]): CompletionLogprobs {
    const { tokenText } = this.#style;
    const shaped = completionLogprobs(tokenIds, scores, tokenText, this.#offset);
    this.#offset += shaped.tokens.reduce((length, token) => length + token.length, 0);
    return shaped;
  }
}

interface Piece {
  text: string;
  tokenIds: readonly number[];
  scores: readonly (TokenScores | null)[];
}

const OBJECT = "text_completion";

/** The body of a response that is not streamed. */
export function completionResponse(head: ResponseHead, choices: CompletionChoice[], usage: Usage) {
  return {
    id: head.id,
    object: OBJECT,
    created: head.created,
    model: head.model,
    choices,
    service_tier: null,
    system_fingerprint: null,
    usage,
    kv_transfer_params: null,
  };
}

/** One part of a stream. */
export function completionChunk(
  head: ResponseHead,
  choice: CompletionChunkChoice,
  usage: Usage | null,
) {
  return {
    id: head.id,
    object: OBJECT,
    created: head.created,
    model: head.model,
    choices: [choice],
    usage,
  };
}

/** The last part of a stream when usage was asked for. */
export function completionUsageChunk(head: ResponseHead, usage: Usage) {
  return {
    id: head.id,
    object: OBJECT,
    created: head.created,
    model: head.model,
    choices: [],
    usage,
  };
}
