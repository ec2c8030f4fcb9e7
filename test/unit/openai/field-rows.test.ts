import { beforeAll, describe, expect, it } from "vitest";
import { buildSamplingParams, type SamplingContext } from "../../../src/engine/index.js";
import { UcmError } from "../../../src/errors/index.js";
import { parseChatRequest, parseCompletionRequest } from "../../../src/openai/index.js";
import type { Tokenizer } from "../../../src/tokenizer/index.js";
import { loadByteTokenizer, vocabSize } from "../server/byte-tokenizer.js";
import type { FieldRow, Route } from "./field-cases.js";
import { bodyRows, grammarRows, samplingRows } from "./field-rows.js";

const model: SamplingContext = {
  ...{ defaultSampling: {}, eosTokenIds: [5], maxLogprobs: 20, maxModelLen: 512, vocabSize },
};
const PROMPT_LENGTH = 10;

let tokenizer: Tokenizer;
beforeAll(async () => {
  tokenizer = await loadByteTokenizer();
});

/** A request as its route reads it, and the parameters that the engine makes of it. */
function read(route: Route, fields: Record<string, unknown>) {
  const parsed: { sampling: object } & object =
    route === "chat"
      ? parseChatRequest({ messages: [{ role: "user", content: "x" }], ...fields })
      : parseCompletionRequest({ prompt: "x", ...fields });
  return { parsed, params: buildSamplingParams(parsed.sampling, model, PROMPT_LENGTH, tokenizer) };
}

function refusal(route: Route, fields: Record<string, unknown>): UcmError {
  try {
    read(route, fields);
  } catch (error) {
    expect(error).toBeInstanceOf(UcmError);
    return error as UcmError;
  }
  throw new Error(`${route} took ${JSON.stringify(fields)}`);
}

const camelCase = (name: string) => name.replace(/_([a-z])/g, (_, letter) => letter.toUpperCase());

type Read = ReturnType<typeof read>;

const tables: [string, readonly FieldRow[], (result: Read, field: string) => unknown][] = [
  ["decoding", samplingRows, ({ params }, field) => Object(params)[camelCase(field)]],
  ["grammars", grammarRows, ({ params }) => params.grammar?.spec.kind],
  ["the rest", bodyRows, ({ parsed }, field) => Object(parsed)[field]],
];

describe.each(tables)("fields of %s", (_name, rows, readValue) => {
  const all = rows.flatMap((row) => row.routes.map((route) => ({ ...row, route })));

  it.each(all)("$field of $route", ({ field, route, good, bad, beside }) => {
    for (const [given, expected] of good) {
      const result = read(route, { ...beside, [field]: given });
      expect({ given, read: readValue(result, field) }).toEqual({ given, read: expected });
    }
    expect(() => read(route, { ...beside, [field]: null })).not.toThrow();
    for (const [given, message] of bad) {
      const error = refusal(route, { ...beside, [field]: given });
      expect({ given, message: error.message }).toEqual({ given, message });
      expect(error.httpStatus).toBe(400);
    }
  });
});

describe("fields that are of one route alone", () => {
  it("prompt: text, texts, token ids, lists of them", () => {
    const promptsOf = (prompt: unknown) => parseCompletionRequest({ prompt }).prompts;
    expect(promptsOf("x")).toEqual(["x"]);
    expect(promptsOf(["x", "y"])).toEqual(["x", "y"]);
    expect(promptsOf([1, 2])).toEqual([[1, 2]]);
    expect(promptsOf([[1], [2, 3]])).toEqual([[1], [2, 3]]);
    for (const prompt of [undefined, null, "", [], [[]], ["x", ""]]) {
      expect(refusal("completion", { prompt }).message).toMatch(
        /^(Either prompt or prompt_embeds must be provided and non-empty\.|please provide at least one prompt)$/,
      );
    }
    expect(refusal("completion", { prompt: [-1] }).message).toContain("'type': 'token_id'");
    expect(refusal("completion", { prompt: { a: 1 } }).message).toContain("'type': 'prompt_type'");
    expect(refusal("completion", { prompt: Array(1025).fill("x") }).message).toContain(
      "List should have at most 1024 prompts, not 1025",
    );
    expect(
      refusal("completion", { prompt: ["x", "y", "z"].flatMap((x) => [x, x]), n: 1000 }).message,
    ).toBe("prompts times n must be at most 4096, got 6000.");
  });

  it("logprobs of completions: a count", () => {
    expect(read("completion", { logprobs: 0 }).params.logprobs).toBe(0);
    expect(read("completion", { logprobs: 20 }).params.logprobs).toBe(20);
    expect(refusal("completion", { logprobs: -1 }).message).toBe(
      "`logprobs` must be a positive value.",
    );
    expect(refusal("completion", { logprobs: 21 }).message).toBe(
      "Requested sample logprobs of 21, which is greater than max allowed: 20 (parameter=logprobs, value=21)",
    );
    expect(refusal("completion", { logprobs: "x" }).message).toContain("'type': 'int_parsing'");
  });

  it("logprobs and top_logprobs of chat: a switch and a count", () => {
    expect(read("chat", { logprobs: true }).params.logprobs).toBe(0);
    expect(read("chat", { logprobs: true, top_logprobs: 20 }).params.logprobs).toBe(20);
    expect(read("chat", { logprobs: false }).params.logprobs).toBeNull();
    expect(refusal("chat", { logprobs: 5 }).message).toContain("'type': 'bool_parsing'");
    expect(refusal("chat", { logprobs: true, top_logprobs: -2 }).message).toBe(
      "`top_logprobs` must be a positive value or -1.",
    );
    expect(refusal("chat", { top_logprobs: 1 }).message).toBe(
      "when using `top_logprobs`, `logprobs` must be set to true.",
    );
  });

  it("max_completion_tokens of chat", () => {
    expect(read("chat", { max_completion_tokens: 5, max_tokens: 7 }).params.maxTokens).toBe(5);
    expect(read("chat", {}).params.maxTokens).toBe(512 - PROMPT_LENGTH);
    expect(refusal("chat", { max_completion_tokens: 0 }).message).toBe(
      "max_tokens must be at least 1, got 0. (parameter=max_tokens, value=0)",
    );
  });

  it("max_tokens 0 of completions, with echo alone", () => {
    const { parsed, params } = read("completion", { echo: true, max_tokens: 0 });
    expect(parsed).toMatchObject({ echoOnly: true });
    expect(params.maxTokens).toBe(1);
  });

  it("bad_words, as tokens", () => {
    expect(read("completion", { bad_words: ["ab"] }).params.badWordIds).toEqual([[97, 98]]);
    expect(refusal("chat", { bad_words: [" "] }).message).toBe(
      "bad_words cannot contain an empty string.",
    );
    expect(refusal("chat", { bad_words: "x" }).message).toContain("'type': 'list_type'");
  });

  it("messages: roles and text", () => {
    const messagesOf = (messages: unknown) => read("chat", { messages }).parsed;
    expect(messagesOf([{ role: "user", content: [{ type: "text", text: "a" }] }])).toMatchObject({
      messages: [{ role: "user", content: [{ type: "text", text: "a" }] }],
    });
    const refused: [unknown, string][] = [
      [[], "messages must hold at least one message"],
      [5, "'type': 'list_type', 'loc': ('body', 'messages')"],
      [[5], "'type': 'dict_type', 'loc': ('body', 'messages', 0)"],
      [[{ content: "x" }], "A message needs a role, which is a string"],
      [[{ role: "user", content: 5 }], "The content of a message is a string or a list of parts"],
      [[{ role: "user", content: [{ type: "image_url" }] }], "only text is served"],
    ];
    for (const [messages, message] of refused) {
      expect(refusal("chat", { messages }).message).toContain(message);
    }
    expect(() => parseChatRequest({})).toThrow(
      "'loc': ('body', 'messages'), 'msg': 'Field required'",
    );
  });

  it("tools and tool_choice", () => {
    const tools = [{ type: "function", function: { name: "f", parameters: { type: "object" } } }];
    const choiceOf = (fields: Record<string, unknown>) =>
      parseChatRequest({ messages: [{ role: "user", content: "x" }], ...fields }).toolChoice;
    expect(choiceOf({ tools })).toEqual({ kind: "auto" });
    expect(choiceOf({ tools, tool_choice: "none" })).toEqual({ kind: "none" });
    expect(choiceOf({ tools, tool_choice: "required" })).toEqual({ kind: "required" });
    const named = { type: "function", function: { name: "f" } };
    expect(choiceOf({ tools, tool_choice: named })).toEqual({ kind: "named", name: "f" });
    const refused: [Record<string, unknown>, string][] = [
      [{ tool_choice: "auto" }, "When using `tool_choice`, `tools` must be set."],
      [
        { tools, tool_choice: "sometimes" },
        'Invalid value for `tool_choice`: "sometimes"! Only named tools, "none", "auto" or "required" are supported.',
      ],
      [
        { tools, tool_choice: { ...named, function: { name: "g" } } },
        "The tool specified in `tool_choice` does not match any of the specified `tools`",
      ],
      [
        { tools, tool_choice: { type: "function" } },
        'Expected field `function` in `tool_choice`. Correct usage: `{"type": "function", "function": {"name": "my_function"}}`',
      ],
      [
        { tools, tool_choice: "required", response_format: { type: "json_object" } },
        "tool_choice that demands a call cannot be combined with structured outputs.",
      ],
    ];
    for (const [fields, message] of refused) {
      expect(refusal("chat", fields).message).toBe(message);
    }
    expect(refusal("chat", { tools: [{ type: "function" }] }).message).toContain(
      "'loc': ('body', 'tools', 0, 'function'), 'msg': 'Field required'",
    );
    expect(refusal("chat", { tools: 5 }).message).toContain("'type': 'list_type'");
  });
});

/** vLLM's fields of v0.17, of the versions before and after it where they differ. */
const vllmFields = {
  both: `model echo frequency_penalty presence_penalty logit_bias logprobs max_tokens n seed stop stream
    stream_options temperature top_p user use_beam_search top_k min_p repetition_penalty length_penalty
    stop_token_ids include_stop_str_in_output ignore_eos min_tokens skip_special_tokens
    spaces_between_special_tokens truncate_prompt_tokens allowed_token_ids prompt_logprobs
    add_special_tokens response_format structured_outputs priority request_id
    return_tokens_as_token_ids return_token_ids cache_salt kv_transfer_params vllm_xargs
    repetition_detection best_of guided_json guided_regex guided_choice guided_grammar
    guided_decoding_backend guided_whitespace_pattern logits_processors bad_words truncation_side
    logprob_token_ids session_id stream_interval thinking_token_budget ec_transfer_params`,
  completion: "prompt prompt_embeds suffix",
  chat: `messages max_completion_tokens top_logprobs tools tool_choice parallel_tool_calls
    reasoning_effort include_reasoning add_generation_prompt continue_final_message documents
    chat_template chat_template_kwargs mm_processor_kwargs media_io_kwargs`,
};

it("has a row for every field of vLLM", () => {
  const ownTests = `prompt logprobs top_logprobs max_completion_tokens bad_words messages tools tool_choice`;
  const rows = [...samplingRows, ...grammarRows, ...bodyRows].map(({ field }) => field);
  const known = new Set([...rows, ...ownTests.split(" ")]);
  const fields = Object.values(vllmFields).flatMap((names) => names.split(/\s+/));
  expect(fields.filter((field) => !known.has(field))).toEqual([]);
});
