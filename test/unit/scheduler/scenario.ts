import type { WorkerSampling } from "../../../src/messages/index.js";
import { defaultSamplingParams, type StepMessage } from "../../../src/messages/index.js";
import type { SequenceInput } from "../../../src/scheduler/index.js";
import {
  Scheduler,
  type SchedulerConfig,
  type SequenceEvent,
  type StartedSequence,
} from "../../../src/scheduler/index.js";

/** A roomy scheduler; tests narrow what they are about. */
export const roomyConfig: SchedulerConfig = {
  blockSize: 4,
  numBlocks: 100,
  maxModelLen: 200,
  maxNumSeqs: 8,
  maxNumBatchedTokens: 64,
  enableChunkedPrefill: true,
  longPrefillTokenThreshold: 0,
  policy: "fcfs",
  maxNumQueuedRequests: 100,
};

export function makeInput(
  seqId: number,
  promptLength: number,
  sampling: Partial<WorkerSampling> = {},
  priority = 0,
): SequenceInput {
  const promptTokenIds = Int32Array.from({ length: promptLength }, (_, i) => 1000 + i);
  return {
    seqId,
    promptTokenIds,
    sampling: { ...defaultSamplingParams, ...sampling },
    priority,
    blockHashes: null,
  };
}

/** What a step does, short enough to compare: "seqId:from+count", "!" where the table starts anew. */
export function summarize(step: StepMessage): string {
  return step.scheduled
    .map((s) => `${s.seqId}:${s.numComputedTokens}+${s.numTokens}${s.resetBlockTable ? "!" : ""}`)
    .join(" ");
}

/** A scheduler with a worker that knows only counts, stepped by hand. */
export class Scenario {
  readonly scheduler: Scheduler;
  readonly #numTokens = new Map<number, number>();
  #step: StepMessage | null = null;
  preempted: number[] = [];
  started: StartedSequence[] = [];

  constructor(config: Partial<SchedulerConfig> = {}) {
    this.scheduler = new Scheduler({ ...roomyConfig, ...config });
  }

  add(...inputs: SequenceInput[]): this {
    for (const input of inputs) {
      this.scheduler.add([input]);
      this.#numTokens.set(input.seqId, input.promptTokenIds.length);
    }
    return this;
  }

  schedule(): StepMessage {
    const plan = this.scheduler.schedule();
    this.#step = plan.step;
    this.preempted = plan.preempted;
    this.started = plan.started;
    return plan.step;
  }

  /** Answers the step in flight with `tokenId` for every sequence that is due. */
  answer(tokenId = 7): SequenceEvent[] {
    const step = this.#step!;
    const due = step.scheduled.filter(
      (s) => s.numComputedTokens + s.numTokens === this.#numTokens.get(s.seqId),
    );
    for (const { seqId } of due) this.#numTokens.set(seqId, this.#numTokens.get(seqId)! + 1);
    return this.scheduler.update({
      type: "stepResult",
      stepId: step.stepId,
      sampled: due.map(({ seqId }) => ({ seqId, tokenId, logprobs: null })),
      failed: [],
      promptLogprobs: [],
      durationMs: 1,
    });
  }

  /** One whole step, summarized. */
  step(tokenId = 7): string {
    const summary = summarize(this.schedule());
    this.answer(tokenId);
    return summary;
  }
}
