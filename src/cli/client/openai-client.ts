import { UcmError } from "../../errors/index.js";
import { errorMessage, expectSuccess, readBody, sendRequest } from "./http-client.js";
import { readEvents } from "./sse-reader.js";

/** A chunk of a completion or chat completion stream, as far as clients look at it. */
export interface StreamChunk {
  choices: { text?: string; delta?: { content?: string | null } }[];
  usage?: { prompt_tokens: number; completion_tokens: number } | null;
}

/** Speaks to an OpenAI-compatible server under a base URL that ends in /v1. */
export class OpenAIClient {
  readonly #baseUrl: string;
  readonly #headers: Record<string, string>;

  constructor(baseUrl: string, apiKey: string) {
    this.#baseUrl = baseUrl.replace(/\/+$/, "");
    this.#headers = { authorization: `Bearer ${apiKey}` };
  }

  /** Ids of the models that the server lists. */
  async listModels(): Promise<string[]> {
    const url = `${this.#baseUrl}/models`;
    const response = await sendRequest(url, { headers: this.#headers });
    if (response.statusCode === 404 && !this.#baseUrl.endsWith("/v1")) {
      response.resume();
      throw new UcmError(
        "UCM_ERR_REMOTE",
        `There is nothing at ${url}: the URL of an API ends in /v1. Try --url ${this.#baseUrl}/v1.`,
      );
    }
    const text = await readBody(await expectSuccess(response));
    const { data } = JSON.parse(text) as { data?: { id: string }[] };
    if (data === undefined || data.length === 0) {
      throw new UcmError("UCM_ERR_REMOTE", `The server at ${url} lists no model.`);
    }
    return data.map(({ id }) => id);
  }

  /** Chunks of a streamed answer; ends at [DONE]. UCM_ERR_REMOTE for refusals and broken streams. */
  async *stream(
    path: "/completions" | "/chat/completions",
    body: Record<string, unknown>,
    signal: AbortSignal,
  ): AsyncGenerator<StreamChunk> {
    const response = await expectSuccess(
      await sendRequest(`${this.#baseUrl}${path}`, {
        headers: this.#headers,
        body: { ...body, stream: true, stream_options: { include_usage: true } },
        signal,
      }),
    );
    for await (const data of readEvents(response)) {
      if (data === "[DONE]") return;
      const chunk = JSON.parse(data) as StreamChunk & { error?: unknown };
      if (chunk.error !== undefined) throw new UcmError("UCM_ERR_REMOTE", errorMessage(data));
      yield chunk;
    }
    throw new UcmError("UCM_ERR_REMOTE", "The server ended the answer before it was complete.");
  }
}
