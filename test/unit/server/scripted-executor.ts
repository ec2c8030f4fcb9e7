import type { Executor } from "../../../src/engine/index.js";
import type {
  FailedSequence,
  LogprobRows,
  NewSequence,
  PromptLogprobs,
  SampledToken,
  StepMessage,
  StepResultMessage,
  TokenMask,
} from "../../../src/messages/index.js";

/** What every sequence is answered with unless a test says otherwise: bytes of this, again and again. */
export const STORY = "The quick brown fox jumps over the lazy dog. ";

interface KnownSequence extends NewSequence {
  generated: number;
}

/**
 * Plays a model for the engine: token k of a sequence comes from a script. Every other promise of a
 * worker is kept: one sample per sequence that is computed up to its last token, logprobs on request.
 */
export class ScriptedExecutor implements Executor {
  /** The token that sequence `seqId` (0 is the engine's first) says as its k-th. */
  script: (k: number, sequence: NewSequence) => number = (k) => STORY.charCodeAt(k % STORY.length);
  /** Milliseconds that a step takes. */
  stepMs = 0;
  /** Steps run from now on meet this error. */
  failure: Error | null = null;
  /** Every sequence ever seen, in order. */
  readonly seen: NewSequence[] = [];
  readonly #known = new Map<number, KnownSequence>();

  async execute(
    step: StepMessage,
    masks: Promise<TokenMask[]> | null = null,
  ): Promise<StepResultMessage> {
    if (this.stepMs > 0) await new Promise((resolve) => setTimeout(resolve, this.stepMs));
    if (this.failure !== null) throw this.failure;
    for (const seqId of step.finished) this.#known.delete(seqId);
    for (const sequence of step.newSequences) {
      this.seen.push(sequence);
      this.#known.set(sequence.seqId, { ...sequence, generated: 0 });
    }
    const maskOf = new Map((await masks)?.map((mask) => [mask.seqId, mask]));
    const sampled: SampledToken[] = [];
    const failed: FailedSequence[] = [];
    const promptLogprobs: PromptLogprobs[] = [];
    for (const { seqId, numComputedTokens, numTokens } of step.scheduled) {
      const sequence = this.#known.get(seqId)!;
      const end = numComputedTokens + numTokens;
      const scores = scorePrompt(sequence, numComputedTokens, end);
      if (scores !== null) promptLogprobs.push(scores);
      if (end < sequence.promptTokenIds.length + sequence.generated) continue;
      const mask = maskOf.get(seqId);
      if (mask !== undefined && "error" in mask) {
        failed.push({ seqId, error: mask.error });
        continue;
      }
      const wish = this.script(sequence.generated++, sequence);
      const tokenId = mask === undefined ? wish : nearestAllowed(wish, mask.mask);
      const width = sequence.sampling.logprobs;
      sampled.push({
        seqId,
        tokenId,
        logprobs: width === null ? null : makeRows([tokenId], width),
      });
    }
    return {
      type: "stepResult",
      stepId: step.stepId,
      sampled,
      failed,
      promptLogprobs,
      durationMs: 0,
    };
  }
}

/** The wished token when the mask allows it, else the next allowed one after it. */
function nearestAllowed(wish: number, mask: Int32Array): number {
  const size = mask.length * 32;
  const order = Array.from({ length: size }, (_, i) => (wish + i) % size);
  const allowed = order.find((id) => ((mask[id >> 5]! >>> (id & 31)) & 1) === 1);
  if (allowed === undefined) throw new Error("The mask allows nothing");
  return allowed;
}

function scorePrompt(sequence: KnownSequence, start: number, end: number): PromptLogprobs | null {
  const { seqId, promptTokenIds, sampling } = sequence;
  const tokens = promptTokenIds.subarray(start + 1, Math.min(end + 1, promptTokenIds.length));
  if (sampling.promptLogprobs === null || tokens.length === 0) return null;
  const rows = makeRows([...tokens], sampling.promptLogprobs);
  return { seqId, firstPosition: start + 1, rows };
}

/** The token is its own likeliest one at -0.5, then come ids 1, 2, … at -1, -2, …. */
function makeRows(tokenIds: readonly number[], top: number): LogprobRows {
  const width = 1 + top;
  const ids = tokenIds.flatMap((id) =>
    Array.from({ length: width }, (_, place) => (place < 2 ? id : place - 1)),
  );
  const logprobs = tokenIds.flatMap(() =>
    Array.from({ length: width }, (_, place) => (place < 2 ? -0.5 : 1 - place)),
  );
  return {
    width,
    tokenIds: Int32Array.from(ids),
    logprobs: Float32Array.from(logprobs),
    ranks: new Int32Array(tokenIds.length).fill(1),
  };
}
