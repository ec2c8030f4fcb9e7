import type { Engine, GenerateOutput } from "../engine/index.js";
import { toUcmError } from "../errors/index.js";
import type { PromptResult } from "./offline-record.js";
import type { OfflineRequest } from "./offline-request.js";

export interface RunHandlers {
  /** Text of sequence 0 as it comes. */
  onText(request: OfflineRequest, text: string): void;
  /** Called once per prompt that was started, in order of completion. */
  onResult(result: PromptResult): void;
}

/**
 * Runs the prompts with at most `concurrency` in the engine. An aborted signal ends those in
 * progress with what they have; the rest is not started.
 */
export async function runRequests(
  engine: Pick<Engine, "generate">,
  requests: readonly OfflineRequest[],
  concurrency: number,
  signal: AbortSignal,
  handlers: RunHandlers,
): Promise<void> {
  const queue = requests.values();
  const lane = async () => {
    for (const request of queue) {
      if (signal.aborted) return;
      handlers.onResult(await runRequest(engine, request, signal, handlers));
    }
  };
  await Promise.all(Array.from({ length: Math.min(concurrency, requests.length) }, lane));
}

async function runRequest(
  engine: Pick<Engine, "generate">,
  request: OfflineRequest,
  signal: AbortSignal,
  handlers: RunHandlers,
): Promise<PromptResult> {
  const { n, logprobs } = request.request.sampling;
  const result: PromptResult = {
    request,
    sequences: Array.from({ length: n }, () => ({
      text: "",
      tokenIds: [],
      logprobs: logprobs === null ? null : [],
      finishReason: null,
      stopReason: null,
    })),
    promptLogprobs: null,
    numCachedTokens: 0,
    times: null,
    error: null,
  };
  try {
    for await (const output of engine.generate(request.request, signal)) {
      addOutput(result, output);
      if (output.delta.index === 0) handlers.onText(request, output.delta.text);
    }
  } catch (error) {
    result.error = toUcmError(error);
  }
  return result;
}

function addOutput(result: PromptResult, output: GenerateOutput): void {
  const { delta } = output;
  const sequence = result.sequences[delta.index]!;
  sequence.text += delta.text;
  for (const tokenId of delta.tokenIds) sequence.tokenIds.push(tokenId);
  if (delta.logprobs !== null) sequence.logprobs?.push(...delta.logprobs);
  sequence.finishReason = delta.finishReason ?? sequence.finishReason;
  sequence.stopReason = delta.stopReason ?? sequence.stopReason;
  result.promptLogprobs = output.promptLogprobs ?? result.promptLogprobs;
  result.numCachedTokens = output.numCachedTokens;
  result.times = output.times;
}
