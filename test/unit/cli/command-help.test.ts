import { describe, expect, it } from "vitest";
import { renderHelp } from "../../../src/cli/command-help.js";
import { type CommandName, commandInfos } from "../../../src/cli/flags/index.js";

describe("renderHelp", () => {
  it("lists groups for plain --help", () => {
    const text = renderHelp("serve", "");
    expect(text).toMatch(/^usage: ucm serve \[model_tag\] \[options\]\n/);
    expect(text).toContain("Config Groups:\n");
    expect(text).toContain(`  ${"ModelConfig".padEnd(24)}The model`);
    expect(text).toContain("  --max-model-len MAX_MODEL_LEN\n");
    expect(text).not.toContain("--enable-log-deltas");
    expect(text).toMatch(/Of vLLM, without effect here: [\s\S]*LoRAConfig/);
    expect(renderHelp("serve", "listgroup")).toBe(text);
  });

  it("shows all flags of a command that has few, and nothing of groups that it has not", () => {
    const text = renderHelp("chat", "");
    expect(text).toContain("--system-prompt SYSTEM_PROMPT");
    expect(text).not.toContain("--help=");
    expect(renderHelp("collect-env", "")).not.toContain("Groups");
  });

  it.each(Object.keys(commandInfos) as CommandName[])("fits 80 columns for %s", (command) => {
    const width = (text: string) =>
      Math.max(...text.split("\n").map((line) => (/^ {2}-/.test(line) ? 0 : line.length)));
    process.env.COLUMNS = "80";
    try {
      expect(width(renderHelp(command, ""))).toBeLessThanOrEqual(80);
      expect(width(renderHelp(command, "all"))).toBeLessThanOrEqual(80);
    } finally {
      delete process.env.COLUMNS;
    }
  });

  it("tells why a flag does nothing, all flags of one reason together", () => {
    const text = renderHelp("serve", "LoRAConfig");
    expect(text).toContain("Not supported: LoRA adapters cannot be loaded:\n");
    expect(text).toMatch(/--max-lora-rank/);
    expect(renderHelp("serve", "max-lora-rank")).toContain("--max-lora-rank MAX_LORA_RANK\n");
  });

  it("tells a default once", () => {
    const flag = (name: string) => renderHelp("serve", name);
    expect(flag("max-model-len")).not.toContain("(default:");
    expect(flag("max-logprobs")).toContain("(default: 20)");
    expect(flag("ssl-ca-certs")).toContain("(default: None)");
  });

  it("shows one group in any case", () => {
    const text = renderHelp("serve", "cacheconfig");
    expect(text).toContain("--num-gpu-blocks-override NUM_GPU_BLOCKS_OVERRIDE");
    expect(text).not.toContain("--port");
    const flags = [...text.matchAll(/^ {2}--([a-z-]+)/gm)].map(([, name]) => name);
    expect(flags).toEqual([...flags].sort());
  });

  it("shows all, and only the command's own", () => {
    expect(renderHelp("serve", "all")).toContain("--tensor-parallel-size, -tp");
    expect(renderHelp("offline", "all")).toContain("--prompt-file");
    expect(renderHelp("offline", "all")).not.toContain("--port ");
  });

  it("searches by part of a name", () => {
    const text = renderHelp("serve", "max_model");
    expect(text).toMatch(/^Arguments matching 'max_model':/);
    expect(text).toContain("--max-model-len");
    expect(renderHelp("serve", "zzz")).toBe(
      "No group or arguments matching 'zzz'.\nUse '--help' to see available groups or '--help=all' to see all available parameters.",
    );
  });
});
