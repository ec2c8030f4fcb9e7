import type { Engine, GenerateOutput, GenerateRequest, SamplingParams } from "../engine/index.js";
import { log } from "../log/index.js";
import type { ServingEngine } from "../server/index.js";
import { pythonRepr } from "./python-repr.js";

export interface RequestLogOptions {
  /** Log what was generated as well. */
  outputs: boolean;
  /** Log each piece of a streamed answer too. */
  deltas: boolean;
  /** Characters, or token ids, of a prompt or an output to show at most; null for all. */
  maxLogLen: number | null;
}

/** The engine as the server sees it, with vLLM's lines per request (--enable-log-requests). */
export function logRequests(engine: Engine, options: RequestLogOptions): ServingEngine {
  return {
    get failure() {
      return engine.failure;
    },
    get isPaused() {
      return engine.isPaused;
    },
    prepare: (sampling, signal) => engine.prepare(sampling, signal),
    pause: (mode) => engine.pause(mode),
    resume: () => engine.resume(),
    sleep: (mode) => engine.sleep(mode),
    wakeUp: () => engine.wakeUp(),
    resetPrefixCache: () => engine.resetPrefixCache(),
    generate(request, signal) {
      logInput(request, options);
      const outputs = engine.generate(request, signal);
      return options.outputs ? logOutputs(request, outputs, options) : outputs;
    },
  };
}

/** Parameters at INFO; the prompt itself, which may be private, at DEBUG. */
function logInput(request: GenerateRequest, { maxLogLen }: RequestLogOptions): void {
  const { requestId, promptTokenIds, sampling } = request;
  const ids = promptTokenIds.slice(0, maxLogLen ?? undefined);
  log.debug(`Request ${requestId} details: prompt_token_ids: ${pythonRepr(ids)}.`);
  log.info(
    `Received request ${requestId}: params: ${describeSampling(sampling)}, lora_request: None.`,
  );
}

/** Passes outputs on, and tells of each sequence when it ends. */
async function* logOutputs(
  { requestId, sampling, isStreamed = false }: GenerateRequest,
  outputs: AsyncIterable<GenerateOutput>,
  { deltas, maxLogLen }: RequestLogOptions,
): AsyncGenerator<GenerateOutput> {
  const sequences = Array.from({ length: sampling.n }, () => ({ text: "", ids: [] as number[] }));
  for await (const output of outputs) {
    const { index, text, tokenIds, finishReason } = output.delta;
    const sequence = sequences[index]!;
    sequence.text += text;
    sequence.ids.push(...tokenIds);
    const tell = (what: string, piece: { text: string; ids: number[] }) => {
      const shown = pythonRepr(piece.text.slice(0, maxLogLen ?? undefined));
      const ids = pythonRepr(piece.ids.slice(0, maxLogLen ?? undefined));
      const reason = pythonRepr(finishReason).replaceAll("'", "");
      log.info(
        `Generated response ${requestId}${what}: output: ${shown}, output_token_ids: ${ids}, finish_reason: ${reason}`,
      );
    };
    if (isStreamed && deltas) tell(" (streaming delta)", { text, ids: tokenIds });
    if (finishReason !== null) tell(isStreamed ? " (streaming complete)" : "", sequence);
    yield output;
  }
}

/** As vLLM prints its SamplingParams. */
function describeSampling(sampling: SamplingParams): string {
  const fields = [
    ["n", pythonRepr(sampling.n)],
    ["presence_penalty", float(sampling.presencePenalty)],
    ["frequency_penalty", float(sampling.frequencyPenalty)],
    ["repetition_penalty", float(sampling.repetitionPenalty)],
    ["temperature", float(sampling.temperature)],
    ["top_p", float(sampling.topP)],
    ["top_k", pythonRepr(sampling.topK)],
    ["min_p", float(sampling.minP)],
    ["seed", pythonRepr(sampling.seed)],
    ["stop", pythonRepr(sampling.stop)],
    ["stop_token_ids", pythonRepr(sampling.stopTokenIds)],
    ["include_stop_str_in_output", pythonRepr(sampling.includeStopStrInOutput)],
    ["ignore_eos", pythonRepr(sampling.ignoreEos)],
    ["max_tokens", pythonRepr(sampling.maxTokens)],
    ["min_tokens", pythonRepr(sampling.minTokens)],
    ["logprobs", pythonRepr(sampling.logprobs)],
    ["prompt_logprobs", pythonRepr(sampling.promptLogprobs)],
    ["skip_special_tokens", pythonRepr(sampling.skipSpecialTokens)],
  ];
  return `SamplingParams(${fields.map(([name, text]) => `${name}=${text}`).join(", ")})`;
}

/** Python writes 1.0 where JavaScript writes 1. */
function float(value: number): string {
  return Number.isInteger(value) ? value.toFixed(1) : String(value);
}
