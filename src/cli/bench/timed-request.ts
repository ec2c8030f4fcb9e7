import { toUcmError } from "../../errors/index.js";
import { errorMessage, expectSuccess, sendRequest } from "../client/http-client.js";
import { readEvents } from "../client/sse-reader.js";
import type { SampleRequest } from "./datasets.js";

/** How requests are sent. */
export interface RequestTarget {
  url: string;
  isChat: boolean;
  model: string;
  headers: Readonly<Record<string, string>>;
  /** Merged into every body. */
  extraBody: Readonly<Record<string, unknown>>;
  insecure: boolean;
}

/** What a request took, by vLLM's definitions; seconds. */
export interface RequestOutcome {
  /** Null when it succeeded. */
  error: string | null;
  startS: number;
  /** From sending to the first message with a choice. */
  ttftS: number;
  /** Gaps between such messages. */
  itlS: number[];
  /** From sending to the last such message. */
  latencyS: number;
  text: string;
  /** As the server counts; null when it does not. */
  outputTokens: number | null;
  promptLen: number;
}

interface Chunk {
  choices?: { text?: string; delta?: { content?: string | null } }[];
  usage?: { completion_tokens?: number } | null;
  error?: unknown;
}

/** Sends one streaming request and times its messages. Failures are outcomes, never thrown. */
export async function sendTimedRequest(
  target: RequestTarget,
  sample: SampleRequest,
  requestId: string,
  signal: AbortSignal,
): Promise<RequestOutcome> {
  const startS = performance.now() / 1000;
  const outcome: RequestOutcome = {
    error: null,
    startS,
    ttftS: 0,
    itlS: [],
    latencyS: 0,
    text: "",
    outputTokens: null,
    promptLen: sample.promptLen,
  };
  let lastS = startS;
  let isFirst = true;
  try {
    const response = await expectSuccess(
      await sendRequest(target.url, {
        headers: { ...target.headers, "x-request-id": requestId },
        body: requestBody(target, sample),
        signal,
        insecure: target.insecure,
      }),
    );
    for await (const data of readEvents(response)) {
      if (data === "[DONE]") break;
      const nowS = performance.now() / 1000;
      const chunk = JSON.parse(data) as Chunk;
      if (chunk.error !== undefined) throw new Error(errorMessage(data));
      outcome.outputTokens = chunk.usage?.completion_tokens ?? outcome.outputTokens;
      const [choice] = chunk.choices ?? [];
      if (choice === undefined) continue;
      if (isFirst) outcome.ttftS = nowS - startS;
      else outcome.itlS.push(nowS - lastS);
      isFirst = false;
      lastS = nowS;
      outcome.text += choice.text ?? choice.delta?.content ?? "";
    }
    outcome.latencyS = lastS - startS;
    if (isFirst) outcome.error = "Never received a valid chunk to calculate TTFT.";
  } catch (error) {
    outcome.error = toUcmError(error).message;
  }
  return outcome;
}

function requestBody(target: RequestTarget, { prompt, outputLen }: SampleRequest) {
  const stream = { stream: true, stream_options: { include_usage: true } };
  const { model, extraBody } = target;
  return target.isChat
    ? {
        model,
        messages: [{ role: "user", content: [{ type: "text", text: prompt }] }],
        max_completion_tokens: outputLen,
        ...stream,
        ...extraBody,
      }
    : {
        model,
        prompt,
        repetition_penalty: 1,
        max_tokens: outputLen,
        ...stream,
        ...extraBody,
      };
}
