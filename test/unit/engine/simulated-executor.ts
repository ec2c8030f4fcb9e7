import type { EngineConfig } from "../../../src/config/engine-config.js";
import type { Executor } from "../../../src/engine/types.js";
import type { SerializedError } from "../../../src/errors/index.js";
import type {
  LogprobRows,
  PromptLogprobs,
  StepMessage,
  StepResultMessage,
  WorkerSampling,
} from "../../../src/messages/index.js";
import { type NextToken, SimulatedWorker } from "../scheduler/simulated-worker.js";

/** An executor over the simulated worker; a test can hold its replies, or make it die. */
export class SimulatedExecutor implements Executor {
  readonly worker: SimulatedWorker;
  readonly steps: StepMessage[] = [];
  readonly samplings = new Map<number, WorkerSampling>();
  /** Sequences that get this error in place of their next token. */
  readonly failing = new Map<number, SerializedError>();
  readonly #prompts = new Map<number, Int32Array>();
  #gate: Promise<void> = Promise.resolve();
  #openGate = () => {};
  #death: Error | null = null;
  #dieNow: (error: Error) => void = () => {};

  constructor(config: EngineConfig, nextToken?: NextToken) {
    const { blockSize, numBlocks } = config.cache;
    const shape = { blockSize, numBlocks, vocabSize: config.model.vocabSize };
    this.worker = new SimulatedWorker(shape, nextToken);
  }

  /** Steps stay in flight until release(). */
  hold(): void {
    this.#gate = new Promise((resolve) => {
      this.#openGate = resolve;
    });
  }

  release(): void {
    this.#openGate();
  }

  /** Rejects the step in flight and all later ones. */
  die(error: Error): void {
    this.#death = error;
    this.#dieNow(error);
  }

  async execute(step: StepMessage): Promise<StepResultMessage> {
    if (this.#death !== null) throw this.#death;
    this.steps.push(step);
    for (const { seqId, sampling, promptTokenIds } of step.newSequences) {
      this.samplings.set(seqId, sampling);
      this.#prompts.set(seqId, promptTokenIds);
    }
    this.worker.begin(step);
    const death = new Promise<never>((_, reject) => {
      this.#dieNow = reject;
    });
    await Promise.race([this.#gate, death]);
    const result = this.worker.finish();
    const failed = result.sampled.flatMap(({ seqId }) => {
      const error = this.failing.get(seqId);
      return error === undefined ? [] : [{ seqId, error }];
    });
    const sampled = result.sampled.filter(({ seqId }) => !this.failing.has(seqId));
    return {
      ...result,
      failed,
      sampled: sampled.map((sample) => {
        const count = this.samplings.get(sample.seqId)!.logprobs;
        return { ...sample, logprobs: count === null ? null : makeRows([sample.tokenId], count) };
      }),
      promptLogprobs: step.scheduled.flatMap((scheduled) => this.#scorePrompt(scheduled)),
    };
  }

  /** Position p is scored by the logits at p - 1. */
  #scorePrompt(scheduled: StepMessage["scheduled"][number]): PromptLogprobs[] {
    const { seqId, numComputedTokens, numTokens } = scheduled;
    const count = this.samplings.get(seqId)!.promptLogprobs;
    if (count === null) return [];
    const firstPosition = numComputedTokens + 1;
    const tokenIds = this.#prompts.get(seqId)!.slice(firstPosition, firstPosition + numTokens);
    if (tokenIds.length === 0) return [];
    return [{ seqId, firstPosition, rows: makeRows([...tokenIds], count) }];
  }
}

/** Rows that tell by their values which token they are of: -id/10 for the token, then its rivals. */
function makeRows(tokenIds: number[], count: number): LogprobRows {
  const columns = Array.from({ length: 1 + count }, (_, column) => column);
  return {
    width: 1 + count,
    tokenIds: Int32Array.from(tokenIds.flatMap((id) => columns.map((column) => id + column))),
    logprobs: Float32Array.from(tokenIds.flatMap((id) => columns.map((column) => -id - column))),
    ranks: Int32Array.from(tokenIds.map(() => 1)),
  };
}
