import { readdirSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { makeTempFolder } from "../helpers/temp-folder.js";
import { runUcm } from "../helpers/ucm-command.js";

describe("ucm bench attention", () => {
  const small = ["bench", "attention", "--seq-len", "64", "--batch-size", "2", "--num-iters", "1"];

  it("prints each case beside the roofs of its run", async () => {
    const { exitCode, stdout, stderr } = await runUcm(small);
    expect({ exitCode, stderr }).toEqual({ exitCode: 0, stderr: "" });
    expect(stdout).toMatch(/^Memory reads \(GB\/s\): +[\d.]+ *$/m);
    expect(stdout).toMatch(/^FP32 multiply-adds \(GFLOP\/s\): +[\d.]+ *$/m);
    expect(stdout).toMatch(/^Prefill of 64: +[\d.]+ ms\/layer, [\d.]+ GFLOP\/s, \d+ %/m);
    expect(stdout).toMatch(/^Decode at 64, batch 2, random: +[\d.]+ ms\/layer, [\d.]+ GB\/s, /m);
  });

  it("prints JSON for each instruction set", async () => {
    const args = [...small, "--json", "--kv-cache-dtype", "float32", "--threads", "1"];
    const { stdout } = await runUcm(args, { UCM_CPU_ISA: "scalar" });
    const result = JSON.parse(stdout);
    expect(result).toMatchObject({
      settings: { seqLen: [64], kvCacheDtype: "float32" },
      roofs: { isa: "scalar", threads: 1 },
    });
    expect(result.cases).toHaveLength(3);
    for (const { rate, roof, ofRoof } of result.cases) expect(ofRoof).toBeCloseTo(rate / roof, 6);
  });

  it.each([
    [["--num-query-heads", "3"], "--num-query-heads 3 is not a multiple of --num-kv-heads 2"],
    [["--head-size", "12"], "--head-size 12 is not a multiple of 8"],
    [["--seq-len", "x"], "argument --seq-len: invalid int value: 'x'"],
  ])("refuses %j", async (args, message) => {
    const { exitCode, stdout, stderr } = await runUcm(["bench", "attention", ...args]);
    expect({ exitCode, stdout }).toEqual({ exitCode: 2, stdout: "" });
    expect(stderr).toContain(`ucm bench attention: error: ${message}`);
  });

  it("passes on what the kernels say", async () => {
    const { exitCode, stderr } = await runUcm(small, { UCM_CPU_ISA: "mmx" });
    expect(exitCode).toBe(1);
    expect(stderr).toContain("UCM_CPU_ISA is 'mmx', but this machine can run: ");
  });
});

describe("ucm bench store", () => {
  it("prints dumps and loads beside plain copies and files, and leaves nothing behind", async () => {
    const folder = makeTempFolder();
    const { exitCode, stdout, stderr } = await runUcm([
      ...["bench", "store", "--path", folder, "--num-blocks", "8", "--num-iters", "1", "--json"],
    ]);
    expect({ exitCode, stderr }).toEqual({ exitCode: 0, stderr: "" });
    const { figures } = JSON.parse(stdout);
    const parts = new Set(figures.map(({ part }: { part?: string }) => part));
    expect(parts).toEqual(new Set([undefined, "memory", "cached", "direct"]));
    expect(readdirSync(folder)).toEqual([]);
  });

  it("refuses a folder that it cannot work in", async () => {
    const { exitCode, stderr } = await runUcm(["bench", "store", "--path", "/nonexistent"]);
    expect(exitCode).toBe(2);
    expect(stderr).toContain("argument --path: cannot work in /nonexistent: ENOENT");
  });
});
