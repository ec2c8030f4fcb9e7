import { beforeEach, describe, expect, it } from "vitest";
import {
  type ChatMessage,
  type ChatTemplateOptions,
  loadTokenizer,
} from "../../../src/tokenizer/index.js";
import {
  byteLevel,
  explainMissingQwen,
  qwenFolder,
  rejection,
  tokenizerFolder,
} from "./fixtures.js";

const SIMPLE =
  "{% for m in messages %}[{{ m.role }}]{{ m.content }}\n{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}";

async function render(
  template: unknown,
  messages: ChatMessage[],
  options: ChatTemplateOptions = {},
  files: Record<string, string> = {},
): Promise<string> {
  const config = { chat_template: template, bos_token: "<|end|>" };
  const tokenizer = await loadTokenizer(tokenizerFolder(byteLevel, config, files));
  return tokenizer.applyChatTemplate(messages, options);
}

const hello: ChatMessage[] = [{ role: "user", content: "hello" }];

describe("which template", () => {
  const named = [
    { name: "default", template: "plain" },
    { name: "tool_use", template: "tools" },
    { name: "rag", template: "rag" },
  ];

  it("takes default, tool_use with tools, one by name, or the text given", async () => {
    expect(await render(named, hello)).toBe("plain");
    expect(await render(named, hello, { tools: [] })).toBe("plain");
    expect(await render(named, hello, { tools: [{}] })).toBe("tools");
    expect(await render(named, hello, { chatTemplate: "rag" })).toBe("rag");
    expect(await render(named, hello, { chatTemplate: "own {{ bos_token }}" })).toBe("own <|end|>");
    expect(await render("one", hello, { tools: [{}] })).toBe("one");
  });

  it("prefers chat_template.jinja", async () => {
    expect(await render("config", hello, {}, { "chat_template.jinja": "file" })).toBe("file");
  });

  it("refuses in vLLM's words when there is none", async () => {
    const { code, message } = await rejection(render(undefined, hello));
    expect(code).toBe("UCM_ERR_INVALID_REQUEST");
    expect(message).toBe(
      "As of transformers v4.44, default chat template is no longer allowed, so you must provide a chat template if the tokenizer does not define one.",
    );
    const tokenizer = await loadTokenizer(tokenizerFolder(byteLevel));
    expect(tokenizer.hasChatTemplate).toBe(false);
    expect(tokenizer.applyChatTemplate(hello, { chatTemplate: "x" })).toBe("x");
  });

  it("names the choices when none is the default", async () => {
    const { message } = await rejection(render(named.slice(1), hello));
    expect(message).toContain("tool_use, rag");
  });

  it("refuses a given template with a syntax error", async () => {
    const { code, message } = await rejection(render(SIMPLE, hello, { chatTemplate: "{% for %}" }));
    expect(code).toBe("UCM_ERR_INVALID_REQUEST");
    expect(message).toContain("syntax error");
  });
});

describe("a template of a client's", () => {
  const render = async (chatTemplate: string, messages = hello) => {
    const tokenizer = await loadTokenizer(tokenizerFolder(byteLevel));
    return tokenizer.applyChatTemplate(messages, { chatTemplate, isUntrusted: true });
  };

  const greedy: [string, string, string][] = [
    ["a huge range", "{% for i in range(10 ** 9) %}{% endfor %}", "failed"],
    ["a range", "{% for i in range(1000000) %}{% endfor %}", "range() of more than 100000"],
    [
      "loops in loops",
      "{% for i in range(9999) %}{% for j in range(9999) %}x{% endfor %}{% endfor %}",
      "it takes more steps than a template may",
    ],
    [
      "text that doubles",
      "{% set ns = namespace(x='ab') %}{% for i in range(90) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
      "it makes text of more than",
    ],
    [
      "loops that do nothing",
      "{% for i in range(99999) %}{% for j in range(99999) if j %}{% endfor %}{% endfor %}",
      "it takes more steps than a template may",
    ],
    [
      "long lists again and again",
      "{% set a = range(99999) %}{% for i in range(50000) %}{{ a|join|length }}{% endfor %}",
      "it takes more steps than a template may",
    ],
    ["endless recursion", "{% macro f(x) %}{{ f(x) }}{% endmacro %}{{ f(1) }}", "failed"],
  ];
  it.each(greedy)("is refused soon: %s", async (_, template, message) => {
    const refusal = await rejection(render(template));
    expect(refusal.code).toBe("UCM_ERR_INVALID_REQUEST");
    expect(refusal.message).toContain(message);
  });

  it("may work on as many messages as there are", async () => {
    const messages = Array.from({ length: 5000 }, (_, i) => ({ role: "user", content: `${i}` }));
    expect(await render(SIMPLE, messages)).toContain("[user]4999\n");
  });
});

describe("what a template sees", () => {
  it("joins text parts and reads no content as empty", async () => {
    const messages: ChatMessage[] = [
      {
        role: "system",
        content: [
          { type: "text", text: "a" },
          { type: "text", text: "b" },
        ],
      },
      { role: "assistant", content: null },
    ];
    expect(await render(SIMPLE, messages)).toBe("[system]a\nb\n[assistant]\n[assistant]");
  });

  it("refuses parts that are not text", async () => {
    const parts = [{ type: "image_url", image_url: {} }];
    const { code, message } = await rejection(render(SIMPLE, [{ role: "user", content: parts }]));
    expect(code).toBe("UCM_ERR_INVALID_REQUEST");
    expect(message).toContain('"image_url"');
  });

  it("gets tools, keyword arguments and the time, and Python's JSON", async () => {
    expect(
      await render("{{ tools | tojson }}", hello, { tools: [{ a: ["é", 1.5, null, true] }] }),
    ).toBe('[{"a": ["é", 1.5, null, true]}]');
    expect(await render("{{ tools is none }} {{ documents is none }}", hello)).toBe("true true");
    expect(
      await render("{{ mood }}{{ messages | length }}", hello, {
        kwargs: { mood: "good", messages: [] },
      }),
    ).toBe("good1");
    expect(
      await render(
        "{{ range(3) | join }}{{ range(5, 1, -2) | join }}{{ range(2, 0) | join }}",
        hello,
      ),
    ).toBe("01253");
    expect(await render("{{ strftime_now('%d %b %Y|%H:%M|%%') }}", hello)).toMatch(
      /^\d\d (Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) \d{4}\|\d\d:\d\d\|%$/,
    );
  });

  it("gets tool-call arguments as an object", async () => {
    const call = (text: string) => [
      {
        role: "assistant",
        content: null,
        tool_calls: [{ function: { name: "f", arguments: text } }],
      },
    ];
    const template = "{{ messages[0].tool_calls[0].function.arguments | tojson }}";
    expect(await render(template, call('{"x":1}'))).toBe('{"x": 1}');
    expect(await render(template, call(""))).toBe("{}");
    expect((await rejection(render(template, call("{")))).code).toBe("UCM_ERR_INVALID_REQUEST");
  });
});

describe("refusals and continuation", () => {
  it("passes raise_exception on as the request's fault", async () => {
    const { code, message } = await rejection(
      render("{{ raise_exception('roles must alternate') }}", hello),
    );
    expect([code, message]).toEqual(["UCM_ERR_INVALID_REQUEST", "roles must alternate"]);
  });

  it("does the same with a template that fails on the messages", async () => {
    const { code, message } = await rejection(render("{{ messages | telepathy }}", hello));
    expect(code).toBe("UCM_ERR_INVALID_REQUEST");
    expect(message).toContain("chat template failed");
  });

  it("continues the final message", async () => {
    const messages = [...hello, { role: "assistant", content: " hel " }];
    expect(await render(SIMPLE, messages, { continueFinalMessage: true })).toBe(
      "[user]hello\n[assistant] hel ",
    );
    const trimming = SIMPLE.replace("m.content", "m.content | trim");
    expect(await render(trimming, messages, { continueFinalMessage: true })).toBe(
      "[user]hello\n[assistant]hel",
    );
    const both = { continueFinalMessage: true, addGenerationPrompt: true };
    expect((await rejection(render(SIMPLE, messages, both))).message).toContain("Cannot set both");
    expect(
      (await rejection(render("nothing", messages, { continueFinalMessage: true }))).message,
    ).toContain("final message does not appear");
  });
});

describe("Qwen2.5's template", () => {
  beforeEach(explainMissingQwen);

  it("adds the default system message and the generation prompt", async () => {
    const tokenizer = await loadTokenizer(qwenFolder);
    const system = "You are Qwen, created by Alibaba Cloud. You are a helpful assistant.";
    expect(tokenizer.applyChatTemplate(hello)).toBe(
      `<|im_start|>system\n${system}<|im_end|>\n<|im_start|>user\nhello<|im_end|>\n<|im_start|>assistant\n`,
    );
    const chat = [
      { role: "system", content: "Be brief." },
      ...hello,
      { role: "assistant", content: "Hi." },
    ];
    expect(tokenizer.applyChatTemplate(chat, { addGenerationPrompt: false })).toBe(
      "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nhello<|im_end|>\n<|im_start|>assistant\nHi.<|im_end|>\n",
    );
  });

  it("renders tools, calls and their answers as Python's Jinja does", async () => {
    const tokenizer = await loadTokenizer(qwenFolder);
    const parameters = {
      type: "object",
      properties: { city: { type: "string" } },
      required: ["city"],
    };
    const tool = { name: "get_weather", description: "Weather in a city – now", parameters };
    const text = tokenizer.applyChatTemplate(
      [
        { role: "user", content: "Weather in Zürich?" },
        {
          role: "assistant",
          content: "",
          tool_calls: [
            {
              type: "function",
              function: {
                name: "get_weather",
                arguments: '{"city":"Zürich","days":[1,2.5],"x":null,"y":true}',
              },
            },
          ],
        },
        { role: "tool", content: "21 °C" },
        { role: "tool", content: "dry" },
      ],
      { tools: [{ type: "function", function: tool }] },
    );
    expect(text).toBe(
      '<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.\n\n# Tools\n\nYou may call one or more functions to assist with the user query.\n\nYou are provided with function signatures within <tools></tools> XML tags:\n<tools>\n{"type": "function", "function": {"name": "get_weather", "description": "Weather in a city – now", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}}\n</tools>\n\nFor each function call, return a json object with function name and arguments within <tool_call></tool_call> XML tags:\n<tool_call>\n{{"name": <function-name>, "arguments": <args-json-object>}}\n</tool_call><|im_end|>\n<|im_start|>user\nWeather in Zürich?<|im_end|>\n<|im_start|>assistant\n<tool_call>\n{"name": "get_weather", "arguments": {"city": "Zürich", "days": [1, 2.5], "x": null, "y": true}}\n</tool_call><|im_end|>\n<|im_start|>user\n<tool_response>\n21 °C\n</tool_response>\n<tool_response>\ndry\n</tool_response><|im_end|>\n<|im_start|>assistant\n',
    );
  });
});
