import { resolve } from "node:path";
import { execaNode } from "execa";
import { afterEach, describe, expect, it, vi } from "vitest";
import { loadNative } from "../../src/native/index.js";

const builtAddon = resolve(import.meta.dirname, "../../build/native/ucm.node");

/** A fresh copy of the loader, which remembers nothing. */
async function freshLoad() {
  vi.resetModules();
  return (await import("../../src/native/index.js")).loadNative;
}

/** Loads the addon in a process of its own and prints `expression` of it. */
async function evaluate(expression: string, env: Record<string, string>) {
  const script = `const native = require(${JSON.stringify(builtAddon)}); console.log(${expression});`;
  return execaNode({ reject: false, env, nodeOptions: [] })`${["-e", script]}`;
}

describe("loadNative", () => {
  afterEach(() => {
    vi.unstubAllEnvs();
  });

  it("loads the built addon once", () => {
    expect(loadNative()).toBe(loadNative());
    expect(loadNative().availableIsas()).toContain("scalar");
  });

  it("follows UCM_NATIVE_PATH", async () => {
    vi.stubEnv("UCM_NATIVE_PATH", builtAddon);
    expect((await freshLoad())().isa()).toBe(loadNative().isa());
  });

  it("names the missing file and the way out", async () => {
    vi.stubEnv("UCM_NATIVE_PATH", "/no/such/ucm.node");
    const load = await freshLoad();
    expect(load).toThrow("no native addon at /no/such/ucm.node; correct UCM_NATIVE_PATH");
    expect(load).toThrow(expect.objectContaining({ code: "UCM_ERR_NATIVE" }));
  });

  it("explains a file that is no addon", async () => {
    vi.stubEnv("UCM_NATIVE_PATH", import.meta.filename);
    const load = await freshLoad();
    expect(load).toThrow(expect.objectContaining({ code: "UCM_ERR_NATIVE" }));
  });
});

describe("UCM_CPU_ISA", () => {
  it("forces each instruction set that the machine has", async () => {
    for (const isa of loadNative().availableIsas()) {
      const { stdout } = await evaluate("native.isa()", { UCM_CPU_ISA: isa });
      expect(stdout).toBe(isa);
    }
  });

  it("chooses the best without it", async () => {
    const { stdout } = await evaluate("native.isa() === native.availableIsas()[0]", {
      UCM_CPU_ISA: "",
    });
    expect(stdout).toBe("true");
  });

  it("refuses an unknown one", async () => {
    const { exitCode, stderr } = await evaluate("native.isa()", { UCM_CPU_ISA: "mmx" });
    expect(exitCode).toBe(1);
    expect(stderr).toContain("UCM_CPU_ISA is 'mmx', but this machine can run: ");
    expect(stderr).toContain("scalar; unset it to use the best");
  });
});

describe("worker threads", () => {
  it("gives each thread an addon of its own and ends cleanly", async () => {
    const inThread = `
      const native = require(${JSON.stringify(builtAddon)});
      native.setThreads(3);
      const values = new Float32Array(1e6);
      native.fillRandom(values, 1, 1);
      console.log(values[999999]);
    `;
    const run = `
      const { Worker } = require("node:worker_threads");
      const start = () => new Worker(${JSON.stringify(inThread)}, { eval: true });
      start().on("exit", () => start().on("exit", (code) => console.log("exit", code)));
    `;
    const { stdout, exitCode } = await execaNode({ nodeOptions: [] })`${["-e", run]}`;
    const lines = stdout.split("\n");
    expect(lines).toHaveLength(3);
    expect(lines[0]).toBe(lines[1]);
    expect(lines[2]).toBe("exit 0");
    expect(exitCode).toBe(0);
  });
});
