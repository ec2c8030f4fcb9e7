import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { parseArguments } from "../../../src/cli/arguments.js";
import { flagsFor } from "../../../src/cli/flags/index.js";
import { UcmError } from "../../../src/errors/index.js";

const serve = flagsFor("serve");
const parse = (...argv: string[]) => parseArguments(serve, argv);
const value = (name: string, ...argv: string[]) => parse(...argv).values.get(name);

function failure(...argv: string[]): string {
  try {
    parse(...argv);
  } catch (error) {
    expect(error).toBeInstanceOf(UcmError);
    expect((error as UcmError).exitCode).toBe(2);
    return (error as UcmError).message;
  }
  throw new Error(`${argv.join(" ")} was accepted`);
}

describe("parseArguments", () => {
  it("takes _ for - up to the first dot only", () => {
    expect(value("gpu-memory-utilization", "--gpu_memory_utilization", "0.5")).toBe("0.5");
    expect(value("kv-transfer-config", "--kv_transfer_config.kv_role", "kv_both")).toEqual({
      kv_role: "kv_both",
    });
  });

  it("expands unique prefixes and refuses ambiguous ones", () => {
    expect(value("max-model-len", "--max-model", "7")).toBe("7");
    expect(failure("--tokenizer-", "x")).toBe(
      "ambiguous option: --tokenizer- could match --tokenizer-mode, --tokenizer-revision",
    );
  });

  it("reads --x, --no-x and refuses --x=value for booleans", () => {
    expect(value("trust-remote-code", "--trust-remote-code")).toBe(true);
    expect(value("trust-remote-code", "--no_trust_remote_code")).toBe(false);
    expect(failure("--trust-remote-code=yes")).toBe(
      "argument --trust-remote-code/--no-trust-remote-code: ignored explicit argument 'yes'",
    );
  });

  it("knows the short forms, and -O in its three spellings", () => {
    expect(value("tensor-parallel-size", "-tp", "2")).toBe("2");
    expect(value("tensor-parallel-size", "-tp=2")).toBe("2");
    expect(value("quantization", "-q", "int8")).toBe("int8");
    for (const argv of [["-O3"], ["-O=3"], ["-O", "3"]]) {
      expect(value("optimization-level", ...argv)).toBe("3");
    }
    expect(value("compilation-config", "-cc.mode=3")).toEqual({ mode: 3 });
  });

  it("merges dotted keys into one object, over the flag's own JSON, and appends with +", () => {
    expect(
      value(
        "hf-overrides",
        ...["--hf-overrides.a.b", "1", "--hf-overrides", '{"c": 2, "a": {"d": 3}}'],
        ...["--hf-overrides.list+", "x,y", "--hf-overrides.list+=z", "--hf-overrides.text=plain"],
      ),
    ).toEqual({ a: { b: 1, d: 3 }, c: 2, list: ["x", "y", "z"], text: "plain" });
  });

  it("cannot be led to the prototype by a dotted key", () => {
    const parsed = value("hf-overrides", "--hf-overrides.__proto__.polluted", "1") as object;
    expect(Object.hasOwn(parsed, "__proto__")).toBe(true);
    expect(({} as Record<string, unknown>).polluted).toBeUndefined();
  });

  it("collects lists up to the next option", () => {
    const parsed = parse("/m", "--served-model-name", "a", "b", "--port", "1");
    expect(parsed.values.get("served-model-name")).toEqual(["a", "b"]);
    expect(parsed.positional).toBe("/m");
    expect(failure("--served-model-name", "--port", "1")).toBe(
      "argument --served-model-name: expected at least one argument",
    );
  });

  it("lets the last of duplicates win, with a warning, but not two config files", () => {
    const parsed = parse("--port", "1", "--port", "2");
    expect(parsed.values.get("port")).toBe("2");
    expect(parsed.warnings).toEqual(["Found duplicate keys --port"]);
    expect(failure("--config", "a.yaml", "--config", "b.yaml")).toBe(
      "More than one config file specified!",
    );
  });

  it("takes negative numbers and words with spaces as values", () => {
    expect(value("max-logprobs", "--max-logprobs", "-1")).toBe("-1");
    const offline = parseArguments(flagsFor("offline"), ["--prompt", "- a list", "--prompt", "b"]);
    expect(offline.values.get("prompt")).toEqual(["- a list", "b"]);
    expect(failure("--port", "--host", "x")).toBe("argument --port: expected one argument");
  });

  it("names what is unknown and the nearest flag", () => {
    expect(failure("/m", "--foo", "1")).toBe("unrecognized arguments: --foo 1");
    expect(failure("/m", "--max-model-lenn", "1")).toBe(
      "unrecognized arguments: --max-model-lenn 1\nDid you mean --max-model-len?",
    );
    expect(failure("/m", "/n")).toBe("unrecognized arguments: /n");
    expect(failure("/m", "--port.x", "1")).toContain("unrecognized arguments: --port.x 1");
  });

  it("finds --help wherever it stands", () => {
    expect(parse("--foo", "--help").help).toBe("");
    expect(parse("--help=max_model").help).toBe("max_model");
  });
});

describe("the launch line of the user's document", () => {
  const document = new URL("../../../../shared/seeds/sparse_attn.md", import.meta.url);
  let text: string | null = null;
  try {
    text = readFileSync(document, "utf8");
  } catch {
    console.log("skipped: the user's document is not beside this checkout");
  }

  it.runIf(text !== null)("parses", () => {
    const block = /vllm serve ([\s\S]*?)```/.exec(text ?? "")?.[1] ?? "";
    const [flags = "", json = ""] = block.split("'");
    const argv = flags.replaceAll("\\\n", " ").trim().split(/\s+/);
    const parsed = parse(...argv, json);
    expect(parsed.positional).toBe("/home/models/Qwen2.5-14B-Instruct");
    expect(Object.fromEntries(parsed.values)).toMatchObject({
      "max-model-len": "20000",
      "tensor-parallel-size": "2",
      "gpu-memory-utilization": "0.87",
      "trust-remote-code": true,
      port: "7800",
    });
    const config = JSON.parse(parsed.values.get("kv-transfer-config") as string);
    expect(config.kv_connector_extra_config.ucm_sparse_method).toBe("ESA");
  });
});
