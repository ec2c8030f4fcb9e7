import type { FastifyReply } from "fastify";
import type { GenerateRequest, SequenceDelta, TokenLogprobs } from "../engine/types.js";
import type { TokenCounts } from "../openai/index.js";
import type { ServingEngine } from "./context.js";
import { appendDelta, copyDelta, type MergedOutput, OutputMerger } from "./output-merger.js";

/** Aborts when the client leaves before its answer is complete. */
export function clientSignal(reply: FastifyReply): AbortSignal {
  const controller = new AbortController();
  const onClose = () => {
    if (!reply.raw.writableFinished) controller.abort();
  };
  if (reply.raw.destroyed) onClose();
  else reply.raw.once("close", onClose);
  return controller.signal;
}

/**
 * All requests of one body, run together. Iterate once; leaving early, an error of any request, or
 * `signal` stops the others. Counts are complete when the iteration is.
 */
export class GenerationRun implements AsyncIterable<MergedOutput> {
  readonly requests: readonly GenerateRequest[];
  /** Per prompt, once its first output has come; null when not asked for. */
  readonly promptLogprobs: ((TokenLogprobs | null)[] | null)[];
  readonly #engine: ServingEngine;
  readonly #signal: AbortSignal;
  readonly #cachedTokens: number[];
  #completionTokens = 0;

  constructor(engine: ServingEngine, requests: readonly GenerateRequest[], signal: AbortSignal) {
    this.requests = requests;
    this.#engine = engine;
    this.#signal = signal;
    this.promptLogprobs = requests.map(() => null);
    this.#cachedTokens = requests.map(() => 0);
  }

  /** Tokens so far. */
  get counts(): TokenCounts {
    return {
      promptTokens: sum(this.requests.map((request) => request.promptTokenIds.length)),
      completionTokens: this.#completionTokens,
      cachedTokens: sum(this.#cachedTokens),
    };
  }

  /** Sequence `index` of a prompt is this choice of the response: choices go prompt by prompt. */
  choiceIndex(promptIndex: number, index: number): number {
    return promptIndex * this.sequencesPerPrompt + index;
  }

  /** The `n` of the body. */
  get sequencesPerPrompt(): number {
    return this.requests[0]?.sampling.n ?? 1;
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<MergedOutput, void> {
    const stop = new AbortController();
    const signal = AbortSignal.any([this.#signal, stop.signal]);
    const merger = new OutputMerger(this.requests.length);
    this.requests.forEach((request, promptIndex) => {
      void this.#pump(merger, request, promptIndex, signal);
    });
    try {
      for (;;) {
        const output = await merger.take();
        if (output === null) return;
        this.#account(output);
        yield output;
      }
    } finally {
      stop.abort();
    }
  }

  /** Everything that was generated, one delta per choice in the order of choices. */
  async collect(): Promise<SequenceDelta[]> {
    const choices: SequenceDelta[] = [];
    for await (const { promptIndex, delta } of this) {
      const index = this.choiceIndex(promptIndex, delta.index);
      const known = choices[index];
      if (known === undefined) choices[index] = copyDelta(delta);
      else appendDelta(known, delta);
    }
    return choices;
  }

  async #pump(
    merger: OutputMerger,
    request: GenerateRequest,
    promptIndex: number,
    signal: AbortSignal,
  ): Promise<void> {
    try {
      for await (const output of this.#engine.generate(request, signal)) {
        merger.put(promptIndex, output);
      }
      merger.close();
    } catch (error) {
      merger.fail(error);
    }
  }

  #account({ promptIndex, delta, promptLogprobs, numCachedTokens }: MergedOutput): void {
    this.#completionTokens += delta.tokenIds.length;
    this.#cachedTokens[promptIndex] = numCachedTokens;
    this.promptLogprobs[promptIndex] ??= promptLogprobs;
  }
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}
