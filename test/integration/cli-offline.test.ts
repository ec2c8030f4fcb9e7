import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { execa } from "execa";
import { describe, expect, it } from "vitest";
import { makeTempFolder } from "../helpers/temp-folder.js";
import {
  childrenOf,
  demoModel,
  isRunning,
  root,
  runUcm,
  startUcm,
  until,
} from "../helpers/ucm-command.js";

const folder = makeTempFolder();
const answers = join(folder, "answers.jsonl");

function file(name: string, content: string): string {
  const path = join(folder, name);
  writeFileSync(path, content);
  return path;
}

const records = (path = answers) =>
  readFileSync(path, "utf8")
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line));

const greedy = ["--temperature", "0", "--max-tokens", "12"];
const endless = [
  ...["--temperature", "0", "--ignore-eos", "--max-tokens", "20000"],
  // Without the model's sampling defaults, of which a warning would tell.
  ...["--generation-config", "vllm"],
];

/** A run that prints an endless answer, once some of it has come. */
async function startAnswering() {
  const child = startUcm(["offline", "--prompt", "It was", ...endless]);
  let text = "";
  child.stdout?.on("data", (chunk) => {
    text += chunk;
  });
  await until("text", () => text.length > 40);
  const [worker = 0] = await childrenOf(child.pid ?? 0);
  return { child, worker };
}

describe("ucm offline", () => {
  it("answers the quick start's question with the bundled model", async () => {
    const prompt = join(root, "configs/quickstart.txt");
    const { exitCode, stdout, stderr } = await runUcm(["offline", "--prompt-file", prompt]);
    expect(exitCode).toBe(0);
    expect(stdout).toContain("48213");
    expect(stderr).toMatch(/TTFT +\d/);
    expect(stderr).toContain("Try next:");
    expect(stderr).not.toContain("\u001b");
  });

  it("writes a record per prompt, in order, for every kind of prompt", async () => {
    const lines = [
      { prompt: "The ship", max_tokens: 4 },
      { messages: [{ role: "user", content: "Hello" }], max_tokens: 3 },
      { prompt_token_ids: [249, 85, 1168], max_tokens: 5, ignore_eos: true, logprobs: 2 },
      { prompt: "The ship", max_tokens: 4, n: 2, temperature: 1, seed: 7 },
    ];
    const prompts = file("prompts.jsonl", lines.map((line) => JSON.stringify(line)).join("\n"));
    const args = ["offline", demoModel, "--prompt-file", prompts, "--temperature", "0"];
    const { exitCode, stdout } = await runUcm([...args, "--output-file", answers]);
    expect(exitCode).toBe(0);
    expect(stdout).toBe("");
    const [text, chat, tokens, several] = records();
    expect(Object.keys(text)).toEqual([
      ...["index", "prompt", "prompt_token_ids", "text", "token_ids", "finish_reason"],
      ...["stop_reason", "usage", "metrics"],
    ]);
    expect(text).toMatchObject({ index: 0, prompt: "The ship", finish_reason: "length" });
    expect(text.usage).toEqual({
      prompt_tokens: text.prompt_token_ids.length,
      completion_tokens: 4,
      cached_tokens: 0,
    });
    expect(text.metrics.e2e_ms).toBeGreaterThanOrEqual(text.metrics.ttft_ms);
    expect(chat.prompt).toContain("<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n");
    expect(tokens.prompt).toBeNull();
    expect(tokens.token_ids).toHaveLength(5);
    for (const [position, entry] of tokens.logprobs.entries()) {
      expect(entry.token_id).toBe(tokens.token_ids[position]);
      expect(entry).toMatchObject({ rank: 1, logprob: entry.top_logprobs[0].logprob });
      expect(entry.top_logprobs).toHaveLength(2);
    }
    expect(several.outputs).toHaveLength(2);
    expect(several.usage.completion_tokens).toBe(8);
  });

  it("gives the same text to stdout as to a file, alone and beside others", async () => {
    const prompts = ["--prompt", "The old man", "--prompt", "It was a dark night, and"];
    const both = await runUcm(["offline", ...prompts, ...greedy]);
    const alone = await runUcm(["offline", "--prompt", "It was a dark night, and", ...greedy]);
    await runUcm(["offline", ...prompts, ...greedy, "--output-file", answers]);
    const texts = records().map(({ text }) => text);
    expect(both.stdout).toBe(texts.join("\n"));
    expect(alone.stdout).toBe(texts[1]);
  });

  it("takes and gives token ids without a tokenizer", async () => {
    const prompts = file("ids.jsonl", '{"prompt_token_ids": [249, 85, 1168]}');
    const args = ["offline", "--skip-tokenizer-init", "--prompt-file", prompts, ...greedy];
    const { stdout, exitCode } = await runUcm(args);
    expect(exitCode).toBe(0);
    const ids = JSON.parse(stdout);
    expect(ids.length).toBeGreaterThan(0);
    expect(ids.every(Number.isInteger)).toBe(true);
  });

  it("ends with what it has on SIGINT", async () => {
    const { child } = await startAnswering();
    child.kill("SIGINT");
    const { exitCode, stderr } = await child;
    expect(exitCode).toBe(130);
    expect(stderr).toMatch(/Tokens +\d+ in, [1-9]\d* out/);
  });

  it("keeps quiet when its reader has gone", async () => {
    const { stdout, stderr, exitCode } = await execa({
      shell: "/bin/bash",
      reject: false,
    })`set -o pipefail; node ${join(root, "bin/ucm.js")} offline --prompt Once ${endless} | head -c 5`;
    expect(stdout).toHaveLength(5);
    expect(stderr).toBe("");
    expect(exitCode).toBe(0);
  });

  it("says that standard output cannot be written", async () => {
    const { stderr, exitCode } = await execa({
      shell: "/bin/bash",
      reject: false,
    })`node ${join(root, "bin/ucm.js")} offline --prompt Once ${endless} > /dev/full`;
    expect(stderr).toMatch(/^ucm offline: error: Cannot write standard output: ENOSPC[^\n]*$/);
    expect(exitCode).toBe(2);
  });

  it("leaves nothing on the machine: no temporary file, no home folder", async () => {
    const [home, temporary] = [makeTempFolder(), makeTempFolder()];
    const env = { HOME: home, TMPDIR: temporary };
    expect((await runUcm(["offline", "--prompt", "Once", ...greedy], env)).exitCode).toBe(0);
    expect([...readdirSync(home), ...readdirSync(temporary)]).toEqual([]);
  });

  it("fails the prompts under which the worker dies, and leaves no process", async () => {
    const { child, worker } = await startAnswering();
    process.kill(worker, "SIGKILL");
    const { exitCode, stderr } = await child;
    expect(exitCode).toBe(1);
    expect(stderr).toContain("was killed by SIGKILL");
    expect(await isRunning(worker)).toBe(false);
  });

  it("takes its worker along when it is killed", async () => {
    const { child, worker } = await startAnswering();
    expect(await isRunning(worker)).toBe(true);
    child.kill("SIGKILL");
    await child;
    await until("the end of the worker", async () => !(await isRunning(worker)));
  });
});
