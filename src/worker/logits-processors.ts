import type { WorkerSampling } from "../messages/index.js";

/** What the processors of one sequence know of its past. */
export interface TokenHistory {
  /** Output tokens so far. */
  numOutput: number;
  /** How often each output token came. */
  readonly outputCounts: Map<number, number>;
  /** Tokens of prompt and output; kept only for a repetition penalty. */
  readonly seen: Set<number> | null;
  /** Output tokens in order; kept only for bad words. */
  readonly output: number[] | null;
}

/** Changes one row of logits, fp32 [vocab], in place. */
export type LogitsProcessor = (logits: Float32Array, history: TokenHistory) => void;

/**
 * The processors that `sampling` asks for, in vLLM V1's order: allowed_token_ids, bad_words,
 * min_tokens, logit_bias, penalties. Token ids outside the row change nothing. Arithmetic rounds to fp32 after
 * each operation, as vLLM's does.
 */
export function createLogitsProcessors(sampling: WorkerSampling): LogitsProcessor[] {
  const processors: LogitsProcessor[] = [];
  const { allowedTokenIds, minTokens, logitBias } = sampling;
  const { repetitionPenalty, frequencyPenalty, presencePenalty } = sampling;
  if (allowedTokenIds !== null) processors.push(allowOnly(allowedTokenIds));
  if (sampling.badWordIds.length > 0) processors.push(forbidWords(sampling.badWordIds));
  if (minTokens > 0) {
    const stopIds = [...sampling.stopTokenIds, ...sampling.eosTokenIds];
    processors.push(forbidUntil(minTokens, stopIds));
  }
  if (logitBias !== null) processors.push(addBias(logitBias));
  if (repetitionPenalty !== 1) processors.push(penalizeRepetition(repetitionPenalty));
  if (frequencyPenalty !== 0 || presencePenalty !== 0) {
    processors.push(penalizeOutput(frequencyPenalty, presencePenalty));
  }
  return processors;
}

function allowOnly(tokenIds: readonly number[]): LogitsProcessor {
  const kept = new Float32Array(tokenIds.length);
  return (logits) => {
    tokenIds.forEach((id, i) => {
      kept[i] = logits[id]!;
    });
    logits.fill(Number.NEGATIVE_INFINITY);
    tokenIds.forEach((id, i) => {
      logits[id] = kept[i]!;
    });
  };
}

/** Forbids the last token of each word where the output ends in those before it. */
function forbidWords(words: readonly (readonly number[])[]): LogitsProcessor {
  return (logits, { output }) => {
    const past = output ?? [];
    for (const word of words) {
      const start = past.length - (word.length - 1);
      const isAhead = start >= 0 && word.slice(0, -1).every((id, i) => past[start + i] === id);
      if (isAhead) logits[word.at(-1)!] = Number.NEGATIVE_INFINITY;
    }
  };
}

function forbidUntil(minTokens: number, tokenIds: readonly number[]): LogitsProcessor {
  return (logits, { numOutput }) => {
    if (numOutput >= minTokens) return;
    for (const id of tokenIds) logits[id] = Number.NEGATIVE_INFINITY;
  };
}

function addBias(bias: Readonly<Record<number, number>>): LogitsProcessor {
  const entries = Object.entries(bias).map(
    ([id, value]) => [Number(id), Math.fround(value)] as const,
  );
  return (logits) => {
    for (const [id, value] of entries) logits[id] = logits[id]! + value;
  };
}

/** Divides positive logits of tokens in prompt or output, multiplies the others (CTRL, 2019). */
function penalizeRepetition(penalty: number): LogitsProcessor {
  const factor = Math.fround(penalty);
  return (logits, { seen }) => {
    for (const id of seen ?? []) {
      const logit = logits[id]!;
      logits[id] = logit > 0 ? logit / factor : logit * factor;
    }
  };
}

function penalizeOutput(frequency: number, presence: number): LogitsProcessor {
  const perCount = Math.fround(frequency);
  const once = Math.fround(presence);
  return (logits, { outputCounts }) => {
    for (const [id, count] of outputCounts) {
      const lowered = Math.fround(logits[id]! - Math.fround(perCount * count));
      logits[id] = lowered - once;
    }
  };
}
