import { APIError } from "openai";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { WorkerSampling } from "../../../src/messages/index.js";
import { specialIds } from "./byte-tokenizer.js";
import { Harness, type JsonObject, MODEL } from "./harness.js";

/** Every field of a request that says how to decode, sent by the official client. */

let server: Harness;

beforeAll(async () => {
  server = await Harness.start();
});
afterAll(() => server.close());

const messages = [{ role: "user" as const, content: "Hi" }];

/** Sends `fields` to both routes; what the worker was told of the request each time. */
async function workerSampling(fields: object): Promise<WorkerSampling[]> {
  const client = server.client();
  const common = { model: MODEL, max_tokens: 2, ...fields };
  await client.completions.create({ ...common, prompt: "x" } as JsonObject);
  const first = server.executor.seen.at(-1)!.sampling;
  await client.chat.completions.create({ ...common, messages } as JsonObject);
  return [first, server.executor.seen.at(-1)!.sampling];
}

const effects: [object, Partial<WorkerSampling>][] = [
  [{ temperature: 0.5 }, { temperature: 0.5 }],
  [{ temperature: 0.001 }, { temperature: 0.01 }],
  [
    { temperature: 0, top_p: 0.5, top_k: 3, min_p: 0.1 },
    { temperature: 0, topP: 1, topK: 0, minP: 0 },
  ],
  [{ top_p: 0.9 }, { topP: 0.9 }],
  [{ top_k: 5 }, { topK: 5 }],
  [{ top_k: -1 }, { topK: 0 }],
  [{ min_p: 0.2 }, { minP: 0.2 }],
  [{ presence_penalty: -2 }, { presencePenalty: -2 }],
  [{ frequency_penalty: 2 }, { frequencyPenalty: 2 }],
  [{ repetition_penalty: 1.2 }, { repetitionPenalty: 1.2 }],
  [{ seed: 7 }, { seed: 7 }],
  [{ seed: -1 }, { seed: null }],
  [{ max_tokens: 5 }, { maxTokens: 5 }],
  [{ min_tokens: 1 }, { minTokens: 1 }],
  [{ stop_token_ids: [7, 9] }, { stopTokenIds: [7, 9] }],
  [{ ignore_eos: true }, { ignoreEos: true, eosTokenIds: [specialIds.imEnd] }],
  [{ prompt_logprobs: 1 }, { promptLogprobs: 1 }],
  [{ prompt_logprobs: 0 }, { promptLogprobs: 0 }],
  [{ logit_bias: { 7: 500, 8: -1 } }, { logitBias: { 7: 100, 8: -1 } }],
  [{ allowed_token_ids: [65, 66] }, { allowedTokenIds: [65, 66] }],
  [{ bad_words: ["ab", " c"] }, { badWordIds: [[97, 98], [99]] }],
  [{ kv_transfer_params: { do_remote_decode: false }, vllm_xargs: { a: 1 } }, { maxTokens: 2 }],
  [{ user: "someone", unknown_field: [1] }, { maxTokens: 2 }],
];

describe("fields of both routes reach the sampler", () => {
  it.each(effects)("%j", async (fields, expected) => {
    for (const sampling of await workerSampling(fields)) expect(sampling).toMatchObject(expected);
  });
});

const refusals: [object, string, string][] = [
  [{ n: 0 }, "n must be at least 1, got 0.", "n"],
  [{ n: 2, temperature: 0 }, "n must be 1 when using greedy sampling, got 2.", "n"],
  [{ presence_penalty: 3 }, "presence_penalty must be in [-2, 2], got 3.0.", "presence_penalty"],
  [
    { frequency_penalty: -2.5 },
    "frequency_penalty must be in [-2, 2], got -2.5.",
    "frequency_penalty",
  ],
  [
    { repetition_penalty: 0 },
    "repetition_penalty must be greater than zero, got 0.0.",
    "repetition_penalty",
  ],
  [
    { temperature: -1 },
    "temperature must be non-negative, got -1.0. (parameter=temperature, value=-1.0)",
    "temperature",
  ],
  [{ top_p: 0 }, "top_p must be in (0, 1], got 0.0. (parameter=top_p, value=0.0)", "top_p"],
  [{ top_k: -2 }, "top_k must be 0 (disable), or at least 1, got -2.", "top_k"],
  [{ min_p: 1.5 }, "min_p must be in [0, 1], got 1.5.", "min_p"],
  [
    { max_tokens: 0 },
    "max_tokens must be at least 1, got 0. (parameter=max_tokens, value=0)",
    "max_tokens",
  ],
  [{ min_tokens: -1 }, "min_tokens must be greater than or equal to 0, got -1.", "min_tokens"],
  [
    { min_tokens: 6, max_tokens: 5 },
    "min_tokens must be less than or equal to max_tokens=5, got 6.",
    "min_tokens",
  ],
  [{ stop: "" }, "stop cannot contain an empty string.", "stop"],
  [{ stop: ["x", ""] }, "stop cannot contain an empty string.", "stop"],
  [{ bad_words: [" "] }, "bad_words cannot contain an empty string.", "bad_words"],
  [
    { prompt_logprobs: 50 },
    "Requested prompt logprobs of 50, which is greater than max allowed: 20 (parameter=prompt_logprobs, value=50)",
    "prompt_logprobs",
  ],
  [{ prompt_logprobs: -2 }, "`prompt_logprobs` must be a positive value or -1.", "prompt_logprobs"],
  [
    { prompt_logprobs: -1, stream: true },
    "`prompt_logprobs` are not available when `stream=True`.",
    "prompt_logprobs",
  ],
  [
    { logit_bias: { 300: 1, 5: 1 } },
    "token_id(s) [300] in logit_bias contain out-of-vocab token ids. Vocabulary size: 300",
    "logit_bias",
  ],
  [{ allowed_token_ids: [] }, "allowed_token_ids is not None and empty!", "allowed_token_ids"],
  [
    { allowed_token_ids: [300] },
    "allowed_token_ids contains out-of-vocab token id!",
    "allowed_token_ids",
  ],
  [
    { stream_options: { include_usage: true } },
    "Stream options can only be defined when `stream=True`.",
    "stream_options",
  ],
  [
    { cache_salt: "" },
    "Parameter 'cache_salt' must be a non-empty string if provided.",
    "cache_salt",
  ],
];

describe("fields of both routes are refused in vLLM's words", () => {
  it.each(refusals)("%j", async (fields, message, param) => {
    const client = server.client();
    const body = { model: MODEL, max_tokens: 2, ...fields } as JsonObject;
    const calls = [
      client.completions.create({ ...body, prompt: "x" }),
      client.chat.completions.create({ ...body, messages }),
    ];
    for (const call of calls) {
      const error = await call.then(() => null).catch((thrown: unknown) => thrown);
      expect(error).toBeInstanceOf(APIError);
      const { status, error: told } = error as APIError;
      expect(told).toEqual({ message, type: "BadRequestError", param, code: 400 });
      expect(status).toBe(400);
    }
  });

  it("has rules of its own for logprobs", async () => {
    const client = server.client();
    const ask = (body: object) =>
      client.completions.create({ model: MODEL, ...body } as JsonObject);
    await expect(ask({ prompt: "x", logprobs: -1 })).rejects.toThrow(
      "`logprobs` must be a positive value.",
    );
    await expect(ask({ prompt: "x", logprobs: 21 })).rejects.toThrow(
      "Requested sample logprobs of 21, which is greater than max allowed: 20 (parameter=logprobs, value=21)",
    );
    const chat = (body: object) =>
      client.chat.completions.create({ model: MODEL, messages, ...body } as JsonObject);
    await expect(chat({ top_logprobs: 2 })).rejects.toThrow(
      "when using `top_logprobs`, `logprobs` must be set to true.",
    );
  });
});
