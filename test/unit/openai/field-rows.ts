import {
  atLeast,
  atMost,
  both,
  chat,
  completion,
  type FieldRow,
  flag,
  ignored,
  pydantic,
  refused,
  row,
  wrongType,
} from "./field-cases.js";

const outOfVocabulary = "Vocabulary size: 300";

/** Decoding: read as the engine's parameters under the same name in camelCase. */
export const samplingRows: readonly FieldRow[] = [
  row(
    "int",
    "n",
    both,
    [
      [1, 1],
      ["3", 3],
      [1024, 1024],
    ],
    [[0, "n must be at least 1, got 0."], atMost("n", 1025, 1024)],
  ),
  row(
    "float",
    "temperature",
    both,
    [
      [0.5, 0.5],
      [0, 0],
      ["0.7", 0.7],
      [0.001, 0.01],
      [2, 2],
    ],
    [[-1, "temperature must be non-negative, got -1.0. (parameter=temperature, value=-1.0)"]],
  ),
  row(
    "float",
    "top_p",
    both,
    [
      [0.5, 0.5],
      [1, 1],
    ],
    [
      [0, "top_p must be in (0, 1], got 0.0. (parameter=top_p, value=0.0)"],
      [1.5, "top_p must be in (0, 1], got 1.5. (parameter=top_p, value=1.5)"],
    ],
  ),
  row(
    "int",
    "top_k",
    both,
    [
      [5, 5],
      [2 ** 31, 2 ** 31],
      [0, 0],
      [-1, 0],
    ],
    [[-2, "top_k must be 0 (disable), or at least 1, got -2."]],
  ),
  row(
    "float",
    "min_p",
    both,
    [
      [0, 0],
      [1, 1],
    ],
    [
      [-0.5, "min_p must be in [0, 1], got -0.5."],
      [1.5, "min_p must be in [0, 1], got 1.5."],
    ],
  ),
  ...["presence_penalty", "frequency_penalty"].map((field) =>
    row(
      "float",
      field,
      both,
      [
        [-2, -2],
        [2, 2],
      ],
      [
        [2.5, `${field} must be in [-2, 2], got 2.5.`],
        [-3, `${field} must be in [-2, 2], got -3.0.`],
      ],
    ),
  ),
  row(
    "float",
    "repetition_penalty",
    both,
    [[1.2, 1.2]],
    [
      [0, "repetition_penalty must be greater than zero, got 0.0."],
      [-1, "repetition_penalty must be greater than zero, got -1.0."],
    ],
  ),
  row(
    "int",
    "seed",
    both,
    [
      [7, 7],
      [-1, null],
      [0, 0],
      [-(2 ** 63), -(2 ** 63)],
    ],
    [atMost("seed", 2 ** 64, 2 ** 63), atLeast("seed", -(2 ** 64), -(2 ** 63))],
  ),
  row(
    "int",
    "max_tokens",
    both,
    [
      [5, 5],
      [502, 502],
    ],
    [
      [0, "max_tokens must be at least 1, got 0. (parameter=max_tokens, value=0)"],
      [-1, "max_tokens must be at least 1, got -1. (parameter=max_tokens, value=-1)"],
      [
        503,
        "This model's maximum context length is 512 tokens. However, you requested 503 output tokens and your prompt contains at least 10 input tokens, for a total of at least 513 tokens. Please reduce the length of the input prompt or the number of requested output tokens. (parameter=input_tokens, value=10)",
      ],
    ],
  ),
  row(
    "int",
    "min_tokens",
    both,
    [
      [0, 0],
      [5, 5],
    ],
    [
      [-1, "min_tokens must be greater than or equal to 0, got -1."],
      [6, "min_tokens must be less than or equal to max_tokens=5, got 6."],
    ],
    { max_tokens: 5 },
  ),
  {
    ...{ field: "stop", routes: both },
    good: [
      ["x", ["x"]],
      [
        ["x", "y"],
        ["x", "y"],
      ],
      [[], []],
    ],
    bad: [
      ...wrongType("list", "stop"),
      ["", "stop cannot contain an empty string."],
      pydantic("stop", [1], "string_type", "Input should be a valid string", { at: 0, input: 1 }),
    ],
  },
  {
    ...{
      field: "stop_token_ids",
      routes: both,
      good: [
        [
          [7, 9],
          [7, 9],
        ],
      ],
    },
    bad: [
      ...wrongType("list", "stop_token_ids"),
      pydantic(
        "stop_token_ids",
        ["x"],
        "token_id",
        "Input should be a list of token ids, integers of 0 or more; the item at 0 is not",
      ),
    ],
  },
  flag("include_stop_str_in_output", both),
  flag("ignore_eos", both),
  flag("skip_special_tokens", both),
  row(
    "int",
    "prompt_logprobs",
    both,
    [
      [0, 0],
      [20, 20],
    ],
    [
      [-2, "`prompt_logprobs` must be a positive value or -1."],
      [
        21,
        "Requested prompt logprobs of 21, which is greater than max allowed: 20 (parameter=prompt_logprobs, value=21)",
      ],
      [
        -1,
        "Requested prompt logprobs of 300, which is greater than max allowed: 20 (parameter=prompt_logprobs, value=300)",
      ],
    ],
  ),
  {
    ...{ field: "logit_bias", routes: both },
    good: [
      [
        { 7: 500, 8: -500 },
        { 7: 100, 8: -100 },
      ],
      [{ 299: 1 }, { 299: 1 }],
    ],
    bad: [
      ...wrongType("object", "logit_bias"),
      pydantic("logit_bias", { 7: "much" }, "logit_bias", "Input should map token ids to numbers"),
      [
        { 300: 1 },
        `token_id(s) [300] in logit_bias contain out-of-vocab token ids. ${outOfVocabulary}`,
      ],
    ],
  },
  {
    ...{
      field: "allowed_token_ids",
      routes: both,
      good: [
        [
          [65, 299],
          [65, 299],
        ],
      ],
    },
    bad: [
      ...wrongType("list", "allowed_token_ids"),
      [[], "allowed_token_ids is not None and empty!"],
      [[300], "allowed_token_ids contains out-of-vocab token id!"],
    ],
  },
];

const unknownFormat =
  "response_format.type must be one of text, json_object, json_schema and structural_tag, got yaml.";
const oneKind =
  "You can only use one kind of constraints for structured outputs ('json', 'regex' or 'choice').";

/** Constraints of the output: read as the grammar's kind. */
export const grammarRows: readonly FieldRow[] = [
  {
    ...{ field: "response_format", routes: both },
    good: [
      [{ type: "text" }, undefined],
      [{ type: "json_object" }, "json_object"],
      [{ type: "json_schema", json_schema: { name: "a", schema: {}, strict: true } }, "json"],
      [{ type: "structural_tag", format: { type: "any_text" } }, "structural_tag"],
    ],
    bad: [
      [{ type: "yaml" }, unknownFormat],
      [
        { type: "json_schema" },
        "When response_format type is 'json_schema', the 'json_schema' field must be provided.",
      ],
      ...wrongType("nested", "response_format"),
    ],
  },
  {
    ...{ field: "structured_outputs", routes: both },
    good: [
      [{ json: { type: "object" } }, "json"],
      [{ json: '{"type": "object"}' }, "json"],
      [{ regex: "a+" }, "regex"],
      [{ choice: ["a", "b"] }, "choice"],
      [{ grammar: 'root ::= "a"' }, "grammar"],
      [{ json_object: true, disable_any_whitespace: true }, "json_object"],
      [{ structural_tag: "{}" }, "structural_tag"],
    ],
    bad: [
      [{}, "You must use one kind of structured outputs constraint but none are specified."],
      [{ regex: "a", choice: ["a"] }, oneKind],
      [{ choice: [] }, "choice must be a list of at least one string, none of them empty."],
      [{ choice: ["a", ""] }, "choice must be a list of at least one string, none of them empty."],
      [{ regex: "" }, "regex must not be empty."],
      [{ json: "{" }, "Invalid JSON grammar specification."],
      [{ json: "[1]" }, "Invalid JSON grammar specification: a schema is a JSON object."],
      [
        { regex: "a", whitespace_pattern: " " },
        "whitespace_pattern is not supported: use disable_any_whitespace.",
      ],
      pydantic("structured_outputs", { choice: 5 }, "list_type", "Input should be a valid list", {
        at: "choice",
        input: 5,
      }),
    ],
  },
  row("string", "guided_regex", both, [["a+", "regex"]]),
  row("string", "guided_grammar", both, [['root ::= "a"', "grammar"]]),
  { ...row("list", "guided_choice", both, [[["a"], "choice"]]) },
  { ...{ field: "guided_json", routes: both, good: [[{}, "json"]] }, bad: [] },
  row("string", "guided_decoding_backend", both, [["outlines", undefined]]),
  row(
    "string",
    "guided_whitespace_pattern",
    both,
    [],
    [[" ", "whitespace_pattern is not supported: use disable_any_whitespace."]],
  ),
];

const noFunctions = "functions are not supported: use tools and tool_choice";

/** Delivery, prompt and refusals: read from the parsed body under the field's own name. */
export const bodyRows: readonly FieldRow[] = [
  row("string", "model", both, [["m", "m"]]),
  flag("stream", both),
  {
    ...{ field: "stream_options", routes: both, beside: { stream: true } },
    good: [
      [{ include_usage: true }, { include_usage: true }],
      [{ continuous_usage_stats: "yes" }, { continuous_usage_stats: true }],
    ],
    bad: [
      ...wrongType("nested", "stream_options"),
      pydantic(
        "stream_options",
        { include_usage: 5 },
        "bool_parsing",
        "Input should be a valid boolean, unable to interpret input",
        { at: "include_usage", input: 5 },
      ),
    ],
  },
  flag("echo", both),
  row(
    "int",
    "truncate_prompt_tokens",
    both,
    [
      [-1, -1],
      [0, 0],
      [7, 7],
    ],
    [atLeast("truncate_prompt_tokens", -2, -1)],
  ),
  flag("add_special_tokens", both),
  row(
    "int",
    "priority",
    both,
    [
      [-5, -5],
      [5, 5],
    ],
    [atMost("priority", 2 ** 40, 2 ** 31), atLeast("priority", -(2 ** 40), -(2 ** 31))],
  ),
  row("string", "request_id", both, [["mine", "mine"]]),
  flag("return_token_ids", both),
  flag("return_tokens_as_token_ids", both),
  row(
    "string",
    "cache_salt",
    both,
    [["salt", "salt"]],
    [["", "Parameter 'cache_salt' must be a non-empty string if provided."]],
  ),
  row("object", "kv_transfer_params", both, [
    [{ do_remote_decode: false }, { do_remote_decode: false }],
  ]),
  row("object", "vllm_xargs", both, [[{ a: 1 }, { a: 1 }]]),
  ignored("user", both, "someone", 5),
  ignored("length_penalty", both, 1, 2),
  ignored("spaces_between_special_tokens", both, true, false),
  ignored("session_id", both, "s"),
  ignored("stream_interval", both, 4),
  ignored("ec_transfer_params", both, {}),
  refused("use_beam_search", both, [false], [true, "use_beam_search is not supported"]),
  refused("best_of", both, [1], [2, "best_of greater than n is not supported"]),
  refused("logits_processors", both, [[]], [["x"], "logits_processors is not supported"]),
  refused("repetition_detection", both, [null], [{}, "repetition_detection is not supported"]),
  refused(
    "logprob_token_ids",
    both,
    [[]],
    [[1], "logprob_token_ids is not supported: ask for more logprobs"],
  ),
  refused(
    "thinking_token_budget",
    both,
    [null],
    [5, "thinking_token_budget is not supported: use max_tokens"],
  ),
  refused(
    "truncation_side",
    both,
    ["left"],
    ["right", 'truncation_side must be "left": the last tokens of a prompt are kept'],
  ),
  refused("suffix", completion, [null], ["x", "suffix is not currently supported"]),
  refused(
    "prompt_embeds",
    completion,
    [null],
    ["AA==", "prompt_embeds is not supported: give the prompt as text or as token ids"],
  ),
  refused("functions", chat, [[]], [[{}], noFunctions]),
  refused("function_call", chat, ["none"], ["auto", noFunctions]),
  ignored("mm_processor_kwargs", chat, {}),
  ignored("media_io_kwargs", chat, {}),
  flag("add_generation_prompt", chat),
  flag("continue_final_message", chat),
  row("string", "chat_template", chat, [["{{ messages }}", "{{ messages }}"]]),
  row(
    "object",
    "chat_template_kwargs",
    chat,
    [[{ mood: "x" }, { mood: "x" }]],
    [
      [{ tokenize: true }, "`tokenize` cannot be set in chat_template_kwargs"],
      [{ chat_template: "" }, "`chat_template` cannot be set in chat_template_kwargs"],
    ],
  ),
  row("list", "documents", chat, [[[{ text: "x" }], [{ text: "x" }]]]),
  row("string", "reasoning_effort", chat, [["low", "low"]]),
  flag("include_reasoning", chat),
  flag("parallel_tool_calls", chat),
];
