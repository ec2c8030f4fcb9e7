import { describe, expect, it } from "vitest";
import { UcmError } from "../../../src/errors/index.js";
import {
  type ChatStyle,
  type ChoiceDelta,
  CompletionChoiceShaper,
  type CompletionStyle,
  chatChoice,
  errorBody,
  promptLogprobs,
  streamErrorText,
} from "../../../src/openai/index.js";

const tokenText = (id: number) => `<${id}>`;

const style: CompletionStyle = {
  echo: false,
  echoOnly: false,
  logprobs: true,
  promptLogprobs: false,
  returnTokenIds: false,
  tokenText,
};

function delta(tokenIds: number[], changes: Partial<ChoiceDelta> = {}): ChoiceDelta {
  return {
    text: tokenIds.map(tokenText).join(""),
    tokenIds,
    logprobs: tokenIds.map((id) => ({ tokenIds: [id, 1, 2], logprobs: [-3, -1, -2], rank: 3 })),
    finishReason: null,
    stopReason: null,
    ...changes,
  };
}

const prompt = { text: "", tokenIds: [8, 9], logprobs: null };

describe("completion logprobs", () => {
  it("hold the token itself beside the likeliest ones", () => {
    const { logprobs } = new CompletionChoiceShaper(0, prompt, style).whole(delta([7]));
    expect(logprobs?.top_logprobs).toEqual([{ "<7>": -3, "<1>": -1, "<2>": -2 }]);
  });

  it("have no infinity, which JSON cannot carry", () => {
    const scores = [{ tokenIds: [7, 1], logprobs: [-Infinity, Number.NaN], rank: 9 }];
    const shaper = new CompletionChoiceShaper(0, prompt, style);
    const { logprobs } = shaper.whole(delta([7], { logprobs: scores }));
    expect(logprobs?.token_logprobs).toEqual([-9999]);
    expect(logprobs?.top_logprobs).toEqual([{ "<7>": -9999, "<1>": -9999 }]);
  });

  it("keep the first number where two tokens have one text", () => {
    const same = { ...style, tokenText: () => "\ufffd" };
    const { logprobs } = new CompletionChoiceShaper(0, prompt, same).whole(delta([7]));
    expect(logprobs?.top_logprobs).toEqual([{ "\ufffd": -3 }]);
  });

  it("have offsets that run on from part to part", () => {
    const shaper = new CompletionChoiceShaper(2, prompt, style);
    const first = shaper.chunk(delta([10, 5]));
    const second = shaper.chunk(delta([6]));
    expect(first.index).toBe(2);
    expect(first.logprobs?.text_offset).toEqual([0, 4]);
    expect(second.logprobs?.text_offset).toEqual([7]);
  });
});

describe("the echoed prompt", () => {
  const echoed = {
    text: "Prompt",
    tokenIds: [8, 9],
    logprobs: [null, { tokenIds: [9], logprobs: [-4], rank: 1 }],
  };

  it("comes once, with the first part", () => {
    const shaper = new CompletionChoiceShaper(0, echoed, { ...style, echo: true });
    const first = shaper.chunk(delta([5]));
    expect(first.text).toBe("Prompt<5>");
    expect(first.logprobs?.token_logprobs).toEqual([null, -4, -3]);
    expect(shaper.chunk(delta([6])).text).toBe("<6>");
  });

  it("comes alone when nothing is to be generated", () => {
    const alone = { ...style, echo: true, echoOnly: true, returnTokenIds: true };
    const choice = new CompletionChoiceShaper(0, echoed, alone).whole(
      delta([5], { finishReason: "length" }),
    );
    expect(choice).toMatchObject({ text: "Prompt", token_ids: [], prompt_token_ids: [8, 9] });
    expect(choice.logprobs?.tokens).toEqual(["<8>", "<9>"]);
    expect(choice.finish_reason).toBe("length");
  });
});

describe("chat logprobs", () => {
  const chatStyle: ChatStyle = {
    role: "assistant",
    prefix: "",
    logprobs: true,
    returnTokenIds: false,
    includeReasoning: true,
    tokenText: (id) => (id === 7 ? "é" : tokenText(id)),
  };

  const plain = { ...delta([7]), parsed: { reasoning: "", content: "é", toolCalls: [] } };

  it("have the bytes of each token, and the likeliest tokens without the sampled one", () => {
    const { logprobs } = chatChoice(0, plain, chatStyle);
    expect(logprobs?.content).toEqual([
      {
        token: "é",
        logprob: -3,
        bytes: [0xc3, 0xa9],
        top_logprobs: [
          { token: "<1>", logprob: -1, bytes: [60, 49, 62] },
          { token: "<2>", logprob: -2, bytes: [60, 50, 62] },
        ],
      },
    ]);
    expect(chatChoice(0, plain, { ...chatStyle, logprobs: false }).logprobs).toBeNull();
  });
});

describe("prompt_logprobs", () => {
  it("rank the token itself as told and its rivals by place", () => {
    const scores = [null, { tokenIds: [7, 1, 2], logprobs: [-3, -1, -2], rank: 40 }];
    expect(promptLogprobs(scores, tokenText)).toEqual([
      null,
      {
        1: { logprob: -1, rank: 1, decoded_token: "<1>" },
        2: { logprob: -2, rank: 2, decoded_token: "<2>" },
        7: { logprob: -3, rank: 40, decoded_token: "<7>" },
      },
    ]);
  });
});

describe("errors", () => {
  it("of the client's making are told in full", () => {
    const error = new UcmError("UCM_ERR_INVALID_REQUEST", "no", { param: "n" });
    expect(errorBody(error)).toEqual({
      error: { message: "no", type: "BadRequestError", param: "n", code: 400 },
    });
  });

  it("of the server's making are not", () => {
    for (const code of ["UCM_ERR_INTERNAL", "UCM_ERR_NATIVE", "UCM_ERR_WORKER"] as const) {
      const { error } = errorBody(new UcmError(code, "/etc/secret", { param: "path" }));
      expect(error.message).not.toContain("secret");
      expect(error.param).toBeNull();
    }
  });

  it("in a stream have the spacing of json.dumps", () => {
    const error = new UcmError("UCM_ERR_INVALID_REQUEST", 'a "b"\n', { param: "n" });
    expect(streamErrorText(error)).toBe(
      '{"error": {"message": "a \\"b\\"\\n", "type": "BadRequestError", "param": "n", "code": 400}}',
    );
  });
});
