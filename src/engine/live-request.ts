import type { UcmError } from "../errors/index.js";
import type { BlockHasher } from "../kvcache/index.js";
import type { PromptLogprobs } from "../messages/index.js";
import type { SequenceEvent, SequenceInput } from "../scheduler/index.js";
import type { Tokenizer } from "../tokenizer/types.js";
import { OutputQueue } from "./output-queue.js";
import { PromptLogprobCollector } from "./prompt-logprobs.js";
import { SequenceOutput } from "./sequence-output.js";
import type {
  FinishReason,
  GenerateOutput,
  GenerateRequest,
  RequestTimes,
  SequenceDelta,
} from "./types.js";

/** A request from its arrival to its end: its n sequences and the stream of their outputs. */
export class LiveRequest {
  readonly request: GenerateRequest;
  readonly queue: OutputQueue<GenerateOutput>;
  readonly #tokenizer: Tokenizer | null;
  readonly #blockHasher: BlockHasher | null;
  #sequences: readonly SequenceInput[] = [];
  /** The sequences that have not ended. */
  readonly #outputs = new Map<number, SequenceOutput>();
  readonly #times: RequestTimes;
  /** Null once sent, or when none were asked for. */
  #promptLogprobs: PromptLogprobCollector | null = null;
  /** Outputs that wait for the prompt's log-probabilities, which go out with the first. */
  #held: GenerateOutput[] = [];
  #numCachedTokens = 0;
  #isRestarted = false;

  constructor(
    request: GenerateRequest,
    options: {
      firstSeqId: number;
      tokenizer: Tokenizer | null;
      /** Null keeps the request away from the prefix cache. */
      blockHasher: BlockHasher | null;
      arrivalMs: number;
      onCancel: () => void;
    },
  ) {
    this.request = request;
    this.#tokenizer = options.tokenizer;
    this.#blockHasher = options.blockHasher;
    this.queue = new OutputQueue(options.onCancel);
    this.#times = {
      arrivalMs: options.arrivalMs,
      scheduledMs: 0,
      firstTokenMs: 0,
      lastTokenMs: 0,
    };
    this.#begin(options.firstSeqId);
  }

  get requestId(): string {
    return this.request.requestId;
  }

  /** What the scheduler runs for it: sequence i is seqIds[i]. */
  get sequences(): readonly SequenceInput[] {
    return this.#sequences;
  }

  /** Whether it may begin anew on other workers: once, and with no token that anybody has seen. */
  get canRestart(): boolean {
    return !this.#isRestarted && this.#times.firstTokenMs === 0;
  }

  /** Begins anew, with new sequences. */
  restart(firstSeqId: number): void {
    this.#isRestarted = true;
    this.#times.scheduledMs = 0;
    this.#outputs.clear();
    this.#begin(firstSeqId);
  }

  #begin(firstSeqId: number): void {
    const { sampling, promptTokenIds, detokenize } = this.request;
    this.#sequences = makeSequences(this.request, firstSeqId, this.#blockHasher);
    const { skipSpecialTokens } = sampling;
    for (const [index, { seqId }] of this.#sequences.entries()) {
      const detokenizer = detokenize
        ? (this.#tokenizer?.detokenizer(promptTokenIds, { skipSpecialTokens }) ?? null)
        : null;
      this.#outputs.set(seqId, new SequenceOutput(index, sampling, detokenizer));
    }
    if (sampling.promptLogprobs !== null) {
      this.#promptLogprobs = new PromptLogprobCollector(promptTokenIds.length);
    }
  }

  get isDone(): boolean {
    return this.#outputs.size === 0;
  }

  /**
   * Called for each of its sequences; the first says what the request found in the cache. True for
   * that one.
   */
  markScheduled(nowMs: number, numCachedTokens: number): boolean {
    if (this.#times.scheduledMs !== 0) return false;
    this.#times.scheduledMs = nowMs;
    this.#numCachedTokens = numCachedTokens;
    return true;
  }

  addPromptLogprobs(rows: PromptLogprobs): void {
    this.#promptLogprobs?.add(rows);
  }

  /** Sends the output of one token; returns why its sequence ended, if it did. */
  addToken(event: SequenceEvent, nowMs: number): FinishReason | null {
    if (this.#times.firstTokenMs === 0) this.#times.firstTokenMs = nowMs;
    this.#times.lastTokenMs = nowMs;
    const delta = this.#outputs.get(event.seqId)!.push(event);
    if (delta.finishReason !== null) this.#outputs.delete(event.seqId);
    this.#send(delta);
    if (this.isDone) this.queue.end();
    return delta.finishReason;
  }

  /** Ends every live sequence with finish reason "abort". */
  abort(): void {
    this.#promptLogprobs = null;
    for (const output of this.#outputs.values()) this.#send(output.abort());
    this.#outputs.clear();
    this.queue.end();
  }

  fail(error: UcmError): void {
    this.#outputs.clear();
    this.queue.fail(error);
  }

  #send(delta: SequenceDelta): void {
    this.#held.push({
      delta,
      promptLogprobs: null,
      numCachedTokens: this.#numCachedTokens,
      times: { ...this.#times },
    });
    if (this.#promptLogprobs !== null) {
      const { complete } = this.#promptLogprobs;
      if (complete === null) return;
      this.#held[0]!.promptLogprobs = complete;
      this.#promptLogprobs = null;
    }
    for (const output of this.#held) this.queue.push(output);
    this.#held = [];
  }
}

/** Sequence i draws from seed + i; the prompt is scored once, by the first. */
function makeSequences(
  request: GenerateRequest,
  firstSeqId: number,
  blockHasher: BlockHasher | null,
): SequenceInput[] {
  const { n, stop, includeStopStrInOutput, skipSpecialTokens, grammar, ...sampling } =
    request.sampling;
  const { seed, promptLogprobs } = sampling;
  const promptTokenIds = Int32Array.from(request.promptTokenIds);
  const blockHashes = blockHasher?.chain(promptTokenIds, request.cacheSalt) ?? null;
  return Array.from({ length: n }, (_, i) => ({
    seqId: firstSeqId + i,
    promptTokenIds,
    priority: request.priority,
    blockHashes: blockHashes?.fork() ?? null,
    sampling: {
      ...sampling,
      seed: seed === null ? null : seed + i,
      promptLogprobs: i === 0 ? promptLogprobs : null,
    },
  }));
}
