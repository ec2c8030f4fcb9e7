import type { EngineObserver, FinishedReason, SequenceRecord } from "../metrics/index.js";
import type { SequenceInput, StartedSequence } from "../scheduler/index.js";
import type { LiveRequest } from "./live-request.js";

type OpenRecord = Omit<SequenceRecord, "finishedReason" | "endMs">;

/** The sequences of a request that have not ended. */
interface OpenRequest {
  n: number;
  numOpen: number;
  maxGeneratedTokens: number;
}

/** Follows every sequence from its arrival to its end and tells the observer. */
export class RequestMeter {
  readonly #observer: EngineObserver;
  readonly #clock: () => number;
  readonly #open = new Map<number, { record: OpenRecord; request: OpenRequest }>();

  constructor(observer: EngineObserver, clock: () => number) {
    this.#observer = observer;
    this.#clock = clock;
  }

  arrived({ sequences, request: { promptTokenIds, sampling } }: LiveRequest): void {
    const request = { n: sequences.length, numOpen: sequences.length, maxGeneratedTokens: 0 };
    for (const { seqId } of sequences) {
      const record = {
        promptTokens: promptTokenIds.length,
        generatedTokens: 0,
        maxTokens: sampling.maxTokens,
        cachedTokens: 0,
        arrivalMs: this.#clock(),
        scheduledMs: null,
        firstTokenMs: null,
        lastTokenMs: null,
      };
      this.#open.set(seqId, { record, request });
    }
  }

  /** The sequences of a request wait again, under other ids; none has a token. */
  restarted(before: readonly SequenceInput[], now: readonly SequenceInput[]): void {
    for (const [i, { seqId }] of before.entries()) {
      const open = this.#open.get(seqId);
      if (open === undefined) continue;
      this.#open.delete(seqId);
      open.record.scheduledMs = null;
      this.#open.set(now[i]!.seqId, open);
    }
  }

  scheduled({ seqId, numCachedTokens }: StartedSequence, nowMs: number): void {
    const record = this.#open.get(seqId)?.record;
    if (record === undefined) return;
    record.scheduledMs = nowMs;
    record.cachedTokens = numCachedTokens;
  }

  gotToken(seqId: number, nowMs: number): void {
    const record = this.#open.get(seqId)?.record;
    if (record === undefined) return;
    if (record.lastTokenMs === null) this.#observer.gotFirstToken(nowMs - record.arrivalMs);
    else this.#observer.gotNextToken(nowMs - record.lastTokenMs);
    record.firstTokenMs ??= nowMs;
    record.lastTokenMs = nowMs;
    record.generatedTokens += 1;
  }

  /** Once is enough: what has ended is not known any more. */
  ended(seqId: number, finishedReason: FinishedReason): void {
    const open = this.#open.get(seqId);
    if (open === undefined) return;
    this.#open.delete(seqId);
    const { record, request } = open;
    this.#observer.sequenceEnded({ ...record, finishedReason, endMs: this.#clock() });
    request.numOpen -= 1;
    request.maxGeneratedTokens = Math.max(request.maxGeneratedTokens, record.generatedTokens);
    if (request.numOpen > 0) return;
    const { n, maxGeneratedTokens } = request;
    this.#observer.requestEnded({ n, maxGeneratedTokens });
  }
}
