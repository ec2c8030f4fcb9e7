import { readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeEach, describe, expect, it } from "vitest";
import { makeTempFolder } from "../helpers/temp-folder.js";
import { copyDemoModel, root, runUcm } from "../helpers/ucm-command.js";

let model = "";

beforeEach(() => {
  model = copyDemoModel();
});

const path = (name: string) => join(model, name);

function edit(name: string, change: (text: string) => string): void {
  writeFileSync(path(name), change(readFileSync(path(name), "utf8")));
}

/** Runs a prompt on the spoilt model: one message, exit code 2, no stack trace, no worker noise. */
async function refusal(...args: string[]): Promise<string> {
  const { exitCode, stdout, stderr } = await runUcm(["offline", model, "--prompt", "hi", ...args]);
  expect(exitCode).toBe(2);
  expect(stdout).toBe("");
  expect(stderr).not.toMatch(/^\s+at /m);
  const lines = stderr.split("\n").filter((line) => line.startsWith("ucm offline: error: "));
  expect(lines).toHaveLength(1);
  return lines[0]!.slice("ucm offline: error: ".length);
}

describe("a model that cannot be used", () => {
  it("is not there", async () => {
    rmSync(model, { recursive: true });
    expect(await refusal()).toContain(`There is no model folder ${model}`);
  });

  it("has no config.json", async () => {
    rmSync(path("config.json"));
    expect(await refusal()).toContain("config.json");
  });

  it("has an unknown architecture", async () => {
    edit("config.json", (text) => text.replace("Qwen2ForCausalLM", "FooForCausalLM"));
    expect(await refusal()).toContain("architecture FooForCausalLM is not supported");
  });

  it("has NaN in config.json", async () => {
    edit("config.json", (text) => text.replace(/"rms_norm_eps": [\d.e-]+/, '"rms_norm_eps": NaN'));
    expect(await refusal()).toContain("NaN");
  });

  it("has no tokenizer", async () => {
    rmSync(path("tokenizer.json"));
    expect(await refusal()).toContain("There is no tokenizer.json");
  });

  it("has truncated weights", async () => {
    truncateSync(path("model.safetensors"), 1_000_000);
    expect(await refusal()).toContain("truncated");
  });

  it("has a weight header longer than its file", async () => {
    const bytes = readFileSync(path("model.safetensors"));
    bytes.writeBigUInt64LE(10n ** 12n);
    writeFileSync(path("model.safetensors"), bytes);
    expect(await refusal()).toContain("its header claims 1000000000000 bytes");
  });

  it("lacks a tensor, or has one of another shape", async () => {
    edit("config.json", (text) =>
      text.replace(/"intermediate_size": \d+/, '"intermediate_size": 704'),
    );
    expect(await refusal()).toMatch(/tensor 'model\.layers\.0\.mlp\.\w+\.weight' has shape/);
    edit("config.json", (text) =>
      text.replace(/"num_hidden_layers": \d+/, '"num_hidden_layers": 99'),
    );
    expect(await refusal()).toMatch(/tensor/);
  });
});

describe("a command line that cannot work", () => {
  it("asks for more memory than there is, and learns the longest context that fits", async () => {
    const cache = ["--kv-cache-memory-bytes", "1M"];
    const message = await refusal(...cache);
    const length = /estimated maximum model length is (\d+)\./.exec(message)?.[1] ?? "";
    const shorter = ["--max-model-len", length, "--max-tokens", "1"];
    const { exitCode } = await runUcm(["offline", model, "--prompt", "hi", ...cache, ...shorter]);
    expect(exitCode).toBe(0);
  });

  it("asks for a KV cache that the system does not give", async () => {
    expect(await refusal("--num-gpu-blocks-override", "2147483647")).toContain(
      "cannot reserve a KV cache of 2147483647 blocks",
    );
  });

  it("has less memory than the model takes", async () => {
    const share = ["--gpu-memory-utilization", "0.0001", "--tensor-parallel-size", "2"];
    expect(await refusal(...share)).toMatch(
      /^The model does not fit into memory: its weights take/,
    );
  });

  it("has a prompt longer than the context", async () => {
    const long = "word ".repeat(200);
    expect(await refusal("--prompt", long, "--max-model-len", "64")).toMatch(
      /^--prompt 2: This model's maximum context length is 64 tokens\./,
    );
  });

  it("has a bad line in the prompt file", async () => {
    const file = join(makeTempFolder(), "p.jsonl");
    writeFileSync(file, '{"prompt": "a"}\n{"prompt": "b"}\n{"prompt": \n');
    expect(await refusal("--prompt-file", file)).toContain("p.jsonl line 3: not valid JSON");
    expect(await refusal("--prompt-file", "/nope.txt")).toContain("there is no such file");
  });

  it("writes where nothing can be written", async () => {
    expect(await refusal("--output-file", "/no/such/folder/o.jsonl")).toContain("/no/such/folder");
  });

  it("has an unknown flag or command", async () => {
    expect(await refusal("--block-size", "7")).toContain("argument --block-size: invalid choice");
    const { exitCode, stderr } = await runUcm(["serve", model, "--foo", "1"]);
    expect(exitCode).toBe(2);
    expect(stderr).toBe(
      "usage: ucm serve [model_tag] [options]\nucm serve: error: unrecognized arguments: --foo 1",
    );
    const other = await runUcm(["bogus"]);
    expect(other.exitCode).toBe(2);
    expect(other.stderr).toMatch(
      /^usage: ucm \[-h\] \[-v\] \{serve,offline,[a-z,-]+\} \.\.\.\nucm: error: argument subparser: invalid choice: 'bogus' \(choose from 'serve', 'offline', [a-z', -]+\)$/,
    );
    expect((await runUcm(["server"])).stderr).toMatch(/\nDid you mean serve\?$/);
  });
});

describe("help and version", () => {
  it("print and exit with 0", async () => {
    const version = JSON.parse(readFileSync(join(root, "package.json"), "utf8")).version;
    expect(await runUcm(["--version"])).toEqual({ exitCode: 0, stdout: version, stderr: "" });
    expect((await runUcm([])).stdout).toContain("serve");
    const help = await runUcm(["serve", "--help=max-model-len"]);
    expect(help).toMatchObject({ exitCode: 0, stderr: "" });
    expect(help.stdout).toContain("--max-model-len MAX_MODEL_LEN");
  });
});
