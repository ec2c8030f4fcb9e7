import { describe, expect, it } from "vitest";
import { UcmError } from "../../../src/errors/index.js";
import {
  parseChatRequest,
  parseCompletionRequest,
  parseDetokenizeRequest,
  parseTokenizeRequest,
} from "../../../src/openai/index.js";
import { cpuMsOf } from "../../helpers/cpu-time.js";

/** The error that `run` throws. */
function refusal(run: () => unknown): UcmError {
  try {
    run();
  } catch (error) {
    if (error instanceof UcmError) return error;
    throw error;
  }
  throw new Error("Nothing was refused");
}

describe("values are read as pydantic's lax mode does", () => {
  const accepted: [string, unknown, unknown][] = [
    ["max_tokens", 5, 5],
    ["max_tokens", 5.0, 5],
    ["max_tokens", "5", 5],
    ["max_tokens", " 5 ", 5],
    ["temperature", "0.5", 0.5],
    ["temperature", "1e-3", 0.001],
    ["temperature", ".5", 0.5],
    ["seed", -(2 ** 63), -(2 ** 63)],
  ];
  it.each(accepted)("%s %j", (field, given, read) => {
    const { sampling } = parseCompletionRequest({ prompt: "x", [field]: given });
    expect(sampling).toEqual({ [field]: read });
  });

  const flags: [unknown, boolean][] = [
    [true, true],
    ["True", true],
    ["on", true],
    [1, true],
    ["0", false],
    ["no", false],
    [0, false],
  ];
  it.each(flags)("stream %j", (given, read) => {
    expect(parseCompletionRequest({ prompt: "x", stream: given }).stream).toBe(read);
  });

  const refused: [string, unknown, string][] = [
    ["max_tokens", 5.5, "int_from_float"],
    ["max_tokens", "5x", "int_parsing"],
    ["max_tokens", true, "int_type"],
    ["max_tokens", {}, "int_type"],
    ["temperature", "NaN", "float_parsing"],
    ["temperature", "0x10", "float_parsing"],
    ["temperature", "", "float_parsing"],
    ["temperature", [], "float_type"],
    ["temperature", Number.POSITIVE_INFINITY, "finite_number"],
    ["stream", "maybe", "bool_parsing"],
    ["stream", 2, "bool_parsing"],
    ["stream", {}, "bool_type"],
    ["seed", 2 ** 64, "less_than_equal"],
    ["truncate_prompt_tokens", -2, "greater_than_equal"],
    ["stop", 5, "list_type"],
    ["stop", ["x".repeat(2000)], "string_too_long"],
    ["stop_token_ids", [1.5], "token_id"],
    ["logit_bias", [1], "dict_type"],
    ["logit_bias", { "1": "much" }, "logit_bias"],
    ["stream_options", 5, "model_attributes_type"],
    ["prompt", 5, "prompt_type"],
    ["prompt", [[1], "x"], "prompt_type"],
  ];
  it.each(refused)("%s %j is refused", (field, given, type) => {
    const error = refusal(() => parseCompletionRequest({ prompt: "x", [field]: given }));
    expect(error.code).toBe("UCM_ERR_INVALID_BODY");
    expect(error.message).toContain(`{'type': '${type}', 'loc': ('body', '${field}'`);
    expect(error.param).toBe(field);
  });

  it("null is absent everywhere", () => {
    const nulls = Object.fromEntries(
      ["n", "max_tokens", "stop", "stream", "logit_bias", "stream_options", "suffix", "model"].map(
        (field) => [field, null],
      ),
    );
    const request = parseCompletionRequest({ prompt: "x", ...nulls });
    expect(request.sampling).toEqual({});
    expect(request.stream).toBeNull();
  });
});

describe("a hostile value in an error message", () => {
  it("is written as Python writes it", () => {
    const given = { a: [null, true, 1.5], 'it\'s "b"': "tab\t" };
    const error = refusal(() => parseCompletionRequest({ prompt: "x", n: given }));
    expect(error.message).toContain(`'input': {'a': [None, True, 1.5], 'it\\'s "b"': 'tab\\t'}}`);
    const simple = refusal(() => parseCompletionRequest({ prompt: "x", n: "it's" }));
    expect(simple.message).toContain(`'input': "it's"}`);
  });

  it("is cut", () => {
    const long = "x".repeat(10_000);
    const wide = Array.from({ length: 1000 }, () => [[[[[long]]]], long]);
    const error = refusal(() => parseCompletionRequest({ prompt: "x", n: wide, seed: long }));
    expect(error.message.length).toBeLessThan(8_000);
    expect(error.message).toContain("…");
  });

  it("of many is told ten times at most", () => {
    const stop = Array.from({ length: 40 }, () => 1);
    const error = refusal(() => parseCompletionRequest({ prompt: "x", stop }));
    expect(error.message.split("\n")).toHaveLength(12);
    expect(error.message).toMatch(/^40 validation errors:\n/);
    expect(error.message).toMatch(/… and 30 more$/);
  });
});

describe("completions", () => {
  it("make prompt_logprobs of logprobs under echo, unless they are asked for", () => {
    const body = { prompt: "x", echo: true, logprobs: 3 };
    expect(parseCompletionRequest(body).sampling.prompt_logprobs).toBe(3);
    const own = parseCompletionRequest({ ...body, prompt_logprobs: 1 });
    expect(own.sampling.prompt_logprobs).toBe(1);
    expect(parseCompletionRequest({ ...body, echo: false }).sampling).toEqual({ logprobs: 3 });
  });

  it("take best_of that changes nothing", () => {
    expect(parseCompletionRequest({ prompt: "x", best_of: 1 }).prompts).toEqual(["x"]);
    expect(parseCompletionRequest({ prompt: "x", n: 3, best_of: 3 }).sampling.n).toBe(3);
  });

  it("read a million token ids quickly", () => {
    const prompt = Array.from({ length: 1_000_000 }, (_, i) => i);
    const spentMs = cpuMsOf(() => {
      expect(parseCompletionRequest({ prompt }).prompts[0]).toHaveLength(1_000_000);
    });
    expect(spentMs).toBeLessThan(1_000);
  });
});

describe("chat", () => {
  const messages = [{ role: "user", content: "x" }];

  it("prefers max_completion_tokens and turns logprobs into a count", () => {
    const { sampling } = parseChatRequest({
      messages,
      max_tokens: 5,
      max_completion_tokens: 7,
      logprobs: true,
      top_logprobs: 4,
    });
    expect(sampling).toEqual({ max_tokens: 7, logprobs: 4 });
    expect(parseChatRequest({ messages, logprobs: true }).sampling).toEqual({ logprobs: 0 });
    expect(parseChatRequest({ messages, top_logprobs: 0 }).sampling).toEqual({});
  });

  it("keeps what the template may want of a message", () => {
    const named = { role: "tool", content: null, tool_call_id: "7" };
    expect(parseChatRequest({ messages: [named] }).messages).toEqual([named]);
    expect(parseChatRequest({ messages: [{ role: "user" }] }).messages[0]?.content).toBeNull();
  });

  it("refuses template variables that would take over", () => {
    const error = refusal(() =>
      parseChatRequest({ messages, chat_template_kwargs: { chat_template: "x" } }),
    );
    expect(error.param).toBe("chat_template_kwargs");
  });
});

describe("tokenize", () => {
  it("tells text from messages, with vLLM's defaults", () => {
    expect(parseTokenizeRequest({ prompt: "x" })).toEqual({
      model: null,
      source: { prompt: "x" },
      addSpecialTokens: true,
      returnTokenStrings: false,
    });
    const chat = parseTokenizeRequest({ messages: [{ role: "user", content: "x" }] });
    expect(chat.addSpecialTokens).toBe(false);
    expect(parseDetokenizeRequest({ tokens: [] }).tokens).toEqual([]);
  });
});
