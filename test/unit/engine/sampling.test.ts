import { describe, expect, it } from "vitest";
import {
  buildSamplingParams,
  type SamplingContext,
  type SamplingFields,
} from "../../../src/engine/index.js";
import { UcmError } from "../../../src/errors/index.js";
import { defaultSamplingParams } from "../../../src/messages/index.js";

const model: SamplingContext = {
  defaultSampling: {},
  eosTokenIds: [5, 6],
  maxLogprobs: 20,
  maxModelLen: 1024,
  vocabSize: 100,
};

const build = (fields: SamplingFields, changes: Partial<SamplingContext> = {}, promptLength = 10) =>
  buildSamplingParams(fields, { ...model, ...changes }, promptLength);

function refusal(
  fields: SamplingFields,
  changes: Partial<SamplingContext> = {},
  promptLength = 10,
) {
  try {
    build(fields, changes, promptLength);
  } catch (error) {
    expect(error).toBeInstanceOf(UcmError);
    const { code, message, param } = error as UcmError;
    return { code, message, param };
  }
  throw new Error("was accepted");
}

describe("defaults", () => {
  it("are neutral and fill the context", () => {
    expect(build({})).toEqual({ ...defaultSamplingParams, maxTokens: 1014, eosTokenIds: [5, 6] });
  });

  it("come from the model's generation config unless the request says otherwise", () => {
    const defaultSampling = { temperature: 0.7, top_p: 0.8, top_k: 20, max_tokens: 50 };
    expect(build({ top_p: 0.5, temperature: null }, { defaultSampling })).toMatchObject({
      temperature: 0.7,
      topP: 0.5,
      topK: 20,
      maxTokens: 50,
    });
    expect(build({ max_tokens: 60 }, { defaultSampling }).maxTokens).toBe(60);
  });

  it("cut the model's max_tokens to the room left, never the request's", () => {
    const defaultSampling = { max_tokens: 50 };
    expect(build({}, { defaultSampling }, 1000).maxTokens).toBe(24);
    expect(refusal({ max_tokens: 50 }, {}, 1000).code).toBe("UCM_ERR_CONTEXT_LENGTH");
  });
});

describe("normalisation", () => {
  it("makes temperature 0 greedy", () => {
    expect(build({ temperature: 0, top_p: 0.5, top_k: 7, min_p: 0.1 })).toMatchObject({
      temperature: 0,
      topP: 1,
      topK: 0,
      minP: 0,
    });
  });

  it("raises tiny temperatures, and reads -1 as off", () => {
    expect(build({ temperature: 0.001, top_k: -1, seed: -1 })).toMatchObject({
      temperature: 0.01,
      topK: 0,
      seed: null,
    });
    expect(build({ seed: 0 }).seed).toBe(0);
  });

  it("takes stop as a string or a list, and clamps biases", () => {
    expect(build({ stop: "a" }).stop).toEqual(["a"]);
    expect(build({ stop: ["a", "b"] }).stop).toEqual(["a", "b"]);
    expect(build({ logit_bias: { "7": 250, "8": -250, "9": 1.5 } }).logitBias).toEqual({
      7: 100,
      8: -100,
      9: 1.5,
    });
  });

  it("passes the rest through", () => {
    const fields = {
      n: 2,
      presence_penalty: 1,
      frequency_penalty: -1,
      repetition_penalty: 1.1,
      min_p: 0.2,
      min_tokens: 3,
      stop_token_ids: [1],
      ignore_eos: true,
      logprobs: 5,
      prompt_logprobs: 0,
      allowed_token_ids: [3],
      include_stop_str_in_output: true,
      skip_special_tokens: false,
    };
    expect(build(fields)).toMatchObject({
      n: 2,
      presencePenalty: 1,
      frequencyPenalty: -1,
      repetitionPenalty: 1.1,
      minP: 0.2,
      minTokens: 3,
      stopTokenIds: [1],
      ignoreEos: true,
      logprobs: 5,
      promptLogprobs: 0,
      allowedTokenIds: [3],
      includeStopStrInOutput: true,
      skipSpecialTokens: false,
    });
  });
});

describe("refusals, word for word", () => {
  it.each<[SamplingFields, string, string]>([
    [{ n: 0 }, "n must be at least 1, got 0.", "n"],
    [{ n: 20000 }, "n must be at most 16384, got 20000.", "n"],
    [{ n: 1.5 }, "n must be an integer, got 1.5.", "n"],
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
    [{ top_p: 1.5 }, "top_p must be in (0, 1], got 1.5. (parameter=top_p, value=1.5)", "top_p"],
    [{ top_k: -2 }, "top_k must be 0 (disable), or at least 1, got -2.", "top_k"],
    [{ min_p: 1.1 }, "min_p must be in [0, 1], got 1.1.", "min_p"],
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
    [{ stop: ["a", ""] }, "stop cannot contain an empty string.", "stop"],
    [{ stop: "" }, "stop cannot contain an empty string.", "stop"],
    [
      { logprobs: 50 },
      "Requested sample logprobs of 50, which is greater than max allowed: 20 (parameter=logprobs, value=50)",
      "logprobs",
    ],
    [
      { logprobs: -1 },
      "Requested sample logprobs of 100, which is greater than max allowed: 20 (parameter=logprobs, value=100)",
      "logprobs",
    ],
    [
      { prompt_logprobs: 21 },
      "Requested prompt logprobs of 21, which is greater than max allowed: 20 (parameter=prompt_logprobs, value=21)",
      "prompt_logprobs",
    ],
    [
      { logprobs: -2 },
      "logprobs must be non-negative or -1, got -2. (parameter=logprobs, value=-2)",
      "logprobs",
    ],
    [
      { logit_bias: { "7": 1, "100": 1, "-3": 1 } },
      "token_id(s) [100, -3] in logit_bias contain out-of-vocab token ids. Vocabulary size: 100",
      "logit_bias",
    ],
    [
      { logit_bias: { cat: 1 } },
      "Found token_id `cat` in logit_bias but token_id must be an integer or string representing an integer",
      "logit_bias",
    ],
    [{ allowed_token_ids: [] }, "allowed_token_ids is not None and empty!", "allowed_token_ids"],
    [
      { allowed_token_ids: [100] },
      "allowed_token_ids contains out-of-vocab token id!",
      "allowed_token_ids",
    ],
    [{ temperature: Number.NaN }, "temperature must be non-negative, got NaN.", "temperature"],
    [{ seed: 1.5 }, "seed must be an integer, got 1.5.", "seed"],
  ])("%j", (fields, message, param) => {
    const { code, ...rest } = refusal(fields);
    expect(code).toBe("UCM_ERR_INVALID_REQUEST");
    expect(rest.param).toBe(param);
    if (message.includes("NaN")) expect(rest.message).toContain(message);
    else expect(rest.message).toBe(message);
  });

  it("lifts the cap on logprobs with -1", () => {
    expect(build({ logprobs: -1, prompt_logprobs: 100 }, { maxLogprobs: -1 })).toMatchObject({
      logprobs: -1,
      promptLogprobs: 100,
    });
  });

  it("names the context in the words that clients match", () => {
    expect(refusal({ max_tokens: 10 }, {}, 1015)).toEqual({
      code: "UCM_ERR_CONTEXT_LENGTH",
      message:
        "This model's maximum context length is 1024 tokens. However, you requested 10 output tokens " +
        "and your prompt contains at least 1015 input tokens, for a total of at least 1025 tokens. " +
        "Please reduce the length of the input prompt or the number of requested output tokens. " +
        "(parameter=input_tokens, value=1015)",
      param: "input_tokens",
    });
    expect(refusal({}, {}, 1024).code).toBe("UCM_ERR_CONTEXT_LENGTH");
    expect(build({}, {}, 1023).maxTokens).toBe(1);
  });
});
