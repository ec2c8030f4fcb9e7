import { describe, expect, it } from "vitest";
import { renderHelp } from "../../../src/cli/command-help.js";

describe("renderHelp", () => {
  it("lists groups for plain --help", () => {
    const text = renderHelp("serve", "");
    expect(text).toMatch(/^usage: ucm serve \[model_tag\] \[options\]\n/);
    expect(text).toContain("Config Groups:\n");
    expect(text).toContain(`  ${"ModelConfig".padEnd(24)}The model`);
    expect(text).not.toContain("--max-model-len MAX");
    expect(renderHelp("serve", "listgroup")).toBe(text);
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
