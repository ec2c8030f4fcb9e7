import { UcmError } from "../errors/index.js";
import type { SampledToken, StepResultMessage } from "../messages/index.js";
import type { FollowedLoad } from "./load-follower.js";
import type { Sequence } from "./sequence.js";

/** The step that the workers are busy with. */
export interface StepInFlight {
  stepId: number;
  sequences: readonly Sequence[];
  /** Without those computed behind a load. */
  numTokens: number;
  followed: FollowedLoad | null;
}

/**
 * The sampled token of each sequence of the step that was due for one and still lives, but for those
 * that the workers left out.
 * @throws UcmError UCM_ERR_WORKER when the reply is not an answer to the step: another step's id, a
 * token missing, doubled, or for a sequence that was not due.
 */
export function matchSamples(
  step: StepInFlight,
  result: StepResultMessage,
): Map<Sequence, SampledToken> {
  if (result.stepId !== step.stepId) {
    throw badReply(`it answered step ${result.stepId} instead of step ${step.stepId}`);
  }
  const lost = new Set(result.sparse?.lost);
  const due = new Map<number, Sequence>();
  for (const sequence of step.sequences) {
    if (sequence.isDue && !lost.has(sequence.seqId)) due.set(sequence.seqId, sequence);
  }
  const last = step.followed;
  if (last !== null && last.begin + last.numTokens === last.sequence.numTokens) {
    due.set(last.sequence.seqId, last.sequence);
  }
  const samples = new Map<Sequence, SampledToken>();
  for (const sample of result.sampled) {
    const sequence = due.get(sample.seqId);
    if (sequence === undefined) {
      throw badReply(`sequence ${sample.seqId} was not due for a token in step ${step.stepId}`);
    }
    due.delete(sample.seqId);
    if (!Number.isInteger(sample.tokenId) || sample.tokenId < 0) {
      throw badReply(`sequence ${sample.seqId} got token id ${sample.tokenId}`);
    }
    if (sequence.status !== "finished") samples.set(sequence, sample);
  }
  for (const { seqId } of result.failed) {
    if (!due.delete(seqId)) {
      throw badReply(`sequence ${seqId} was not due to fail in step ${step.stepId}`);
    }
  }
  for (const sequence of due.values()) {
    throw badReply(`sequence ${sequence.seqId} got no token in step ${step.stepId}`);
  }
  return samples;
}

function badReply(what: string): UcmError {
  return new UcmError(
    "UCM_ERR_WORKER",
    `The worker broke the step protocol: ${what}. Restart the server; if it happens again, report it.`,
  );
}
