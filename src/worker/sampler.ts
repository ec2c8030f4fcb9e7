import { UcmError } from "../errors/index.js";
import type { LogprobRows, NewSequence, WorkerSampling } from "../messages/index.js";
import type { NativeAddon } from "../native/index.js";
import {
  createLogitsProcessors,
  type LogitsProcessor,
  type TokenHistory,
} from "./logits-processors.js";
import { uniform } from "./random.js";

/** The part of the addon that sampling needs. */
export type SamplingKernels = Pick<
  NativeAddon,
  "findNonFinite" | "argmax" | "draw" | "topLogprobs"
>;

/** Lower temperatures than this, other than 0, are raised to it (vLLM: they overflow). */
const MIN_TEMPERATURE = 0.01;

/** What the sampler keeps of one sequence until it is finished. */
export interface SamplerState {
  readonly seqId: number;
  readonly sampling: WorkerSampling;
  readonly processors: readonly LogitsProcessor[];
  readonly history: TokenHistory;
}

export interface Sample {
  tokenId: number;
  /** One position, when the request asked for log-probabilities. */
  logprobs: LogprobRows | null;
}

/** Gathers the log-probabilities of some prompt positions, one row of logits at a time. */
export interface PromptLogprobCollector {
  /** `logits` fp32 [vocab] scored the position of `tokenId`. At most as many calls as positions. */
  add(logits: Float32Array, tokenId: number): void;
  rows(): LogprobRows;
}

/**
 * Chooses tokens from logits, with vLLM V1's semantics and order: log-probabilities of the raw
 * logits, then the processors, then greedy or a draw.
 */
export interface Sampler {
  createState(sequence: NewSequence): SamplerState;
  /**
   * The next token of a sequence; `mask`, when given, allows it. `logits` fp32 [vocab] is scratch
   * afterwards. UCM_ERR_INTERNAL for
   * logits that are not finite, UCM_ERR_INVALID_REQUEST when the request forbids every token.
   */
  sample(logits: Float32Array, state: SamplerState, mask?: Int32Array | null): Sample;
  /** Log-probabilities of `positions` prompt tokens and the `k` likeliest (-1: all) beside each. */
  promptLogprobs(positions: number, k: number): PromptLogprobCollector;
}

/** `seed` is that of requests without one: each draws from its own stream, named by its seqId. */
export function createSampler(
  native: SamplingKernels,
  { vocabSize, seed }: { vocabSize: number; seed: number },
): Sampler {
  const rawLogits = new Float32Array(vocabSize);

  function choose(logits: Float32Array, { seqId, sampling, history }: SamplerState): number {
    const likeliest = native.argmax(logits);
    if (logits[likeliest] === Number.NEGATIVE_INFINITY) throw nothingAllowed();
    if (sampling.temperature === 0) return likeliest;
    return native.draw(logits, {
      temperature: Math.max(sampling.temperature, MIN_TEMPERATURE),
      // The kernels take 32 bits, requests any integer: as many as there are is no limit.
      topK: sampling.topK < vocabSize ? sampling.topK : 0,
      topP: sampling.topP,
      minP: sampling.minP,
      uniform:
        sampling.seed === null
          ? uniform(seed, seqId, history.numOutput)
          : uniform(sampling.seed, null, history.numOutput),
    });
  }

  return {
    createState({ seqId, promptTokenIds, sampling }) {
      const seen = sampling.repetitionPenalty === 1 ? null : new Set(promptTokenIds);
      return {
        seqId,
        sampling,
        processors: createLogitsProcessors(sampling),
        history: {
          numOutput: 0,
          outputCounts: new Map(),
          seen,
          output: sampling.badWordIds.length > 0 ? [] : null,
        },
      };
    },

    sample(logits, state, mask = null) {
      const { sampling, processors, history } = state;
      checkFinite(native, logits);
      if (mask !== null) applyMask(logits, mask);
      let raw = logits;
      if (sampling.logprobs !== null && processors.length > 0) {
        rawLogits.set(logits);
        raw = rawLogits;
      }
      for (const process of processors) process(logits, history);
      const tokenId = choose(logits, state);
      record(history, tokenId);
      if (sampling.logprobs === null) return { tokenId, logprobs: null };
      const collected = createCollector(native, vocabSize, 1, sampling.logprobs);
      collected.add(raw, tokenId);
      return { tokenId, logprobs: collected.rows() };
    },

    promptLogprobs(positions, k) {
      const collected = createCollector(native, vocabSize, positions, k);
      return {
        rows: collected.rows,
        add(logits, tokenId) {
          checkFinite(native, logits);
          collected.add(logits, tokenId);
        },
      };
    },
  };
}

function record(history: TokenHistory, tokenId: number): void {
  history.numOutput++;
  history.outputCounts.set(tokenId, (history.outputCounts.get(tokenId) ?? 0) + 1);
  history.seen?.add(tokenId);
  history.output?.push(tokenId);
}

function createCollector(
  native: SamplingKernels,
  vocabSize: number,
  positions: number,
  k: number,
): PromptLogprobCollector {
  const top = k < 0 ? vocabSize : Math.min(k, vocabSize);
  const width = 1 + top;
  const rows: LogprobRows = {
    width,
    tokenIds: new Int32Array(positions * width),
    logprobs: new Float32Array(positions * width),
    ranks: new Int32Array(positions),
  };
  let position = 0;
  return {
    add(logits, tokenId) {
      const best = native.topLogprobs(logits, top, tokenId);
      const start = position * width;
      rows.tokenIds[start] = tokenId;
      rows.logprobs[start] = best.tokenLogprob;
      rows.tokenIds.set(best.tokenIds, start + 1);
      rows.logprobs.set(best.logprobs, start + 1);
      rows.ranks[position] = best.tokenRank;
      position++;
    },
    rows: () => rows,
  };
}

/** Forbids the tokens whose bit is not set: bit i of word w is token 32 w + i. */
function applyMask(logits: Float32Array, mask: Int32Array): void {
  for (const [w, word] of mask.entries()) {
    if (word === -1) continue;
    const begin = w * 32;
    const end = Math.min(begin + 32, logits.length);
    if (word === 0) logits.fill(Number.NEGATIVE_INFINITY, begin, end);
    else {
      for (let id = begin; id < end; id++) {
        if (((word >>> (id - begin)) & 1) === 0) logits[id] = Number.NEGATIVE_INFINITY;
      }
    }
  }
}

/** A NaN would otherwise surface as an arbitrary token. */
function checkFinite(native: SamplingKernels, logits: Float32Array): void {
  const i = native.findNonFinite(logits);
  if (i < 0) return;
  throw new UcmError(
    "UCM_ERR_INTERNAL",
    `The model's logit of token ${i} is ${logits[i]}, not a finite number, so no token can be chosen. The weights may be damaged, or too large for the chosen dtype or quantization.`,
  );
}

function nothingAllowed(): UcmError {
  return new UcmError(
    "UCM_ERR_INVALID_REQUEST",
    "No token can be generated: structured outputs, allowed_token_ids, bad_words, logit_bias and min_tokens together forbid every one. Allow a token that does not end the sequence, or lower min_tokens.",
  );
}
