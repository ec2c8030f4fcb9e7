import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { readPromptFile, readPrompts } from "../../../src/cli/offline-prompts.js";
import { UcmError } from "../../../src/errors/index.js";
import { makeTempFolder } from "../../helpers/temp-folder.js";

const folder = makeTempFolder();

function file(name: string, content: string | Buffer): string {
  const path = join(folder, name);
  writeFileSync(path, content);
  return path;
}

function failure(path: string): string {
  try {
    readPromptFile(path);
  } catch (error) {
    expect(error).toBeInstanceOf(UcmError);
    expect(error).toMatchObject({ code: "UCM_ERR_PROMPT_FILE", exitCode: 2 });
    return (error as UcmError).message.replaceAll(path, "FILE");
  }
  throw new Error("accepted");
}

describe("readPromptFile", () => {
  it("takes a whole .txt file as one prompt, as it is", () => {
    const [prompt, ...rest] = readPromptFile(file("a.txt", "one\ntwo\n"));
    expect(prompt?.source).toEqual({ kind: "text", text: "one\ntwo\n" });
    expect(rest).toEqual([]);
  });

  it("takes a prompt of any kind per .jsonl line, with its own sampling fields", () => {
    const lines = [
      '{"prompt": "x", "max_tokens": 3, "temperature": 0}',
      "",
      '{"prompt_token_ids": [1, 2], "ignore_eos": true, "logprobs": 2, "priority": 5}\r',
      '{"messages": [{"role": "user", "content": "hi"}], "stop": "."}',
    ];
    const prompts = readPromptFile(file("a.jsonl", lines.join("\n")));
    expect(prompts.map(({ source }) => source)).toEqual([
      { kind: "text", text: "x" },
      { kind: "tokens", tokenIds: [1, 2] },
      { kind: "messages", messages: [{ role: "user", content: "hi" }] },
    ]);
    expect(prompts.map(({ fields }) => fields)).toEqual([
      { max_tokens: 3, temperature: 0 },
      { ignore_eos: true, logprobs: 2 },
      { stop: ["."] },
    ]);
    expect(prompts[1]?.priority).toBe(5);
    expect(prompts[2]?.origin).toMatch(/a\.jsonl line 4$/);
  });

  it.each([
    ['{"prompt": "x"}\n{bad', /^FILE line 2: not valid JSON: /],
    ["[1]", /^FILE line 1: a line must be a JSON object/],
    ['{"prompt": 5}', /^FILE line 1: prompt: Input should be a valid string\.$/],
    ['{"prompt": "x", "max_tokens": "many"}', /^FILE line 1: max_tokens: Input should be a valid/],
    ['{"prompt": "x", "stop": [1]}', /^FILE line 1: stop\.0: /],
    ['{"prompt_token_ids": [1, -2]}', /^FILE line 1: prompt_token_ids: .*item at 1 is not/],
    ['{"messages": "hi"}', /^FILE line 1: messages: Input should be a valid list\.$/],
    ['{"messages": [{"content": "x"}]}', /^FILE line 1: messages\.0: A message needs a role/],
    ['{"prompt": "x", "temprature": 1}', /unknown field 'temprature'\. Did you mean temperature\?/],
    ['{"max_tokens": 1}', /exactly one of prompt, messages and prompt_token_ids, not none/],
    ['{"prompt": "x", "messages": []}', /not prompt and messages\.$/],
  ])("refuses %s", (content, expected) => {
    expect(failure(file("bad.jsonl", content))).toMatch(expected);
  });

  it("takes what the output must match, and says where that is wrong", () => {
    const line = { prompt: "x", structured_outputs: { choice: ["a", "b"] } };
    const [prompt] = readPromptFile(file("g.jsonl", JSON.stringify(line)));
    expect(prompt?.fields).toEqual({
      grammar: { spec: { kind: "choice", choices: ["a", "b"] }, afterTokenId: null },
    });
    const wrong = { ...line, guided_regex: "x" };
    const message = failure(file("h.jsonl", JSON.stringify(wrong)));
    expect(message).toMatch(/^FILE line 1: You can only use one kind of constraints/);
  });

  it("refuses files that are missing, empty, of another kind or not text", () => {
    expect(failure(join(folder, "none.txt"))).toBe(
      "The prompt file FILE cannot be read: there is no such file.",
    );
    expect(failure(file("empty.txt", ""))).toBe("The prompt file FILE is empty.");
    expect(failure(file("blank.jsonl", "\n \n"))).toBe("The prompt file FILE is empty.");
    expect(failure(file("a.csv", "x"))).toContain("must end in .txt");
    expect(failure(file("latin.txt", Buffer.from([0x66, 0xfc])))).toContain("is not UTF-8 text");
  });
});

describe("readPrompts", () => {
  it("puts prompts of the command line before those of the file", () => {
    const prompts = readPrompts(["a", "b"], file("c.txt", "c"));
    expect(prompts.map(({ source }) => source)).toEqual(
      ["a", "b", "c"].map((text) => ({ kind: "text", text })),
    );
    expect(prompts[1]?.origin).toBe("--prompt 2");
  });

  it("needs a prompt", () => {
    expect(() => readPrompts([], null)).toThrow(
      "one of the arguments --prompt-file --prompt is required",
    );
  });
});
