import { once } from "node:events";
import { mkdirSync, rmdirSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { execa } from "execa";
import { describe, expect, it } from "vitest";
import { makeTempFolder } from "../helpers/temp-folder.js";
import { copyDemoModel, demoModel, root, runUcm } from "../helpers/ucm-command.js";

const RANKS = ["--tensor-parallel-size", "2", "--cpu-cores-per-worker", "1"];
const PREFIX = "ucm serve: error: ";

interface Ending {
  exitCode?: number | undefined;
  stdout: string;
  stderr: string;
}

/** What an operator reads: on standard error the message alone, in one line, and no word of it before. */
function messageOf({ exitCode, stdout, stderr }: Ending, expectedCode: number): string {
  expect(stderr.slice(0, PREFIX.length)).toBe(PREFIX);
  expect(stderr.trimEnd()).not.toContain("\n");
  expect(stdout).not.toMatch(/error|^\s+at |WARNING|Worker_TP/im);
  expect(exitCode).toBe(expectedCode);
  return stderr.trimEnd().slice(PREFIX.length);
}

async function serveError(
  expectedCode: number,
  args: string[],
  env: Record<string, string> = {},
): Promise<string> {
  return messageOf(await runUcm(["serve", ...args], env), expectedCode);
}

const { qwen25Half } = await import(new URL("../perf/shapes.mjs", import.meta.url).href);

/** 1.84 GiB of weights in fp32. */
function bigModel(): string[] {
  const folder = makeTempFolder();
  writeFileSync(join(folder, "config.json"), JSON.stringify(qwen25Half));
  return ["serve", folder, "--load-format", "dummy", "--skip-tokenizer-init"];
}

/** Runs ucm in the place of a shell that has done `setup`, whose limits it inherits. */
async function runUnder(setup: string, args: string[]): Promise<Ending> {
  const script = `${setup}; exec "$@"`;
  const words = ["-c", script, "sh", process.execPath, join(root, "bin/ucm.js"), ...args];
  return execa("sh", words, { reject: false, stdin: "ignore" });
}

describe("a server that cannot start says one thing", () => {
  it("a size that does not divide the model", async () => {
    expect(await serveError(2, [demoModel, "--tensor-parallel-size", "3"])).toBe(
      "--tensor-parallel-size 3 does not fit the model: it must divide the 4 attention heads and the MLP width of 768, and divide or be a multiple of the 2 KV heads. Legal sizes: 1, 2, 4.",
    );
  });

  it("a shard of the weights that is not there", async () => {
    const model = copyDemoModel();
    const shard = "model-00002-of-00002.safetensors";
    rmSync(join(model, "model.safetensors"));
    writeFileSync(
      join(model, "model.safetensors.index.json"),
      JSON.stringify({ weight_map: { "model.embed_tokens.weight": shard } }),
    );
    expect(await serveError(2, [model, ...RANKS])).toBe(
      `Missing shard ${join(model, shard)}, which model.safetensors.index.json names. Download the checkpoint again.`,
    );
  });

  it("a native part for another instruction set, or none, or none that is one", async () => {
    const forced = await serveError(1, [demoModel, ...RANKS], { UCM_CPU_ISA: "mmx" });
    expect(forced).toMatch(
      /^UCM_CPU_ISA is 'mmx', but this machine can run: [a-z0-9, ]*scalar; unset it to use the best$/,
    );
    const missing = await serveError(1, [demoModel, ...RANKS], { UCM_NATIVE_PATH: "/no/ucm.node" });
    expect(missing).toBe("no native addon at /no/ucm.node; correct UCM_NATIVE_PATH, or unset it");
    const foreign = join(makeTempFolder(), "ucm.node");
    writeFileSync(foreign, "\x7fELF of another machine");
    expect(await serveError(1, [demoModel, ...RANKS], { UCM_NATIVE_PATH: foreign })).toBe(
      `cannot load the native addon ${foreign}: ${foreign}: file too short; if it was built for another machine or version, run \`npm run build:native\``,
    );
  });

  it("a port that is taken, before anything is loaded", async () => {
    const holder = createServer().listen(0, "127.0.0.1");
    await once(holder, "listening");
    const { port } = holder.address() as { port: number };
    const args = ["serve", demoModel, "--host", "127.0.0.1", "--port", String(port)];
    const ending = await runUcm(args);
    holder.close();
    expect(messageOf(ending, 2)).toBe(
      `127.0.0.1:${port} is already in use. Stop what listens there, or choose another with --port.`,
    );
    expect(ending.stdout).not.toContain("Starting to load model");
  });
});

describe("a server for GPUs", () => {
  const intro =
    "argument --device: cuda is not available: this version has no GPU backend, only one for CPUs";

  it.each([
    [
      "echo '0, NVIDIA L4, 23034 MiB'; echo '1, NVIDIA L4, 23034 MiB'",
      "found GPU 0 NVIDIA L4 (23034 MiB), GPU 1 NVIDIA L4 (23034 MiB) by nvidia-smi",
    ],
    [
      "echo 'No devices were found'; exit 6",
      "no GPU was found: nvidia-smi says: No devices were found, and there is no /proc/driver/nvidia/gpus",
    ],
    [null, "no GPU was found: nvidia-smi is not on PATH, and there is no /proc/driver/nvidia/gpus"],
  ])("says what it has and what is missing when nvidia-smi does %s", async (script, found) => {
    const path = makeTempFolder();
    if (script !== null) {
      writeFileSync(join(path, "nvidia-smi"), `#!/bin/sh\n${script}\n`, { mode: 0o755 });
    }
    const ending = await runUcm(["serve", demoModel, "--device", "cuda"], { PATH: path });
    expect(ending.exitCode).toBe(2);
    expect(ending.stderr).toBe(
      `usage: ucm serve [model_tag] [options]\nucm serve: error: ${intro} (${found}). Use --device cpu, or auto.`,
    );
  });
});

describe("a model of 2 GB", () => {
  const tooBig = (room: string) =>
    new RegExp(
      `^The model does not fit into memory: its weights take 1\\.84 GiB in fp32 per worker, and a worker may take 0\\.\\d\\d GiB \\(${room}\\)\\. Give it more memory, or try --quantization int8 \\(0\\.47 GiB\\) or --quantization int4 \\(0\\.40 GiB\\)\\.$`,
    );

  it("does not start where a process may take 1 GB", async () => {
    const ending = await runUnder("ulimit -d 1000000", bigModel());
    expect(messageOf(ending, 2)).toMatch(tooBig("ulimit -d leaves it so much"));
  });

  it("does not start in a container of 1 GB", async ({ skip }) => {
    const cgroup = `/sys/fs/cgroup/memory/ucm-test-${process.pid}`;
    try {
      mkdirSync(cgroup);
      writeFileSync(join(cgroup, "memory.limit_in_bytes"), "1000000000");
    } catch (error) {
      skip(`no memory cgroup can be made: ${(error as Error).message}`);
    }
    const ending = await runUnder(`echo $$ > ${cgroup}/cgroup.procs`, bigModel());
    rmdirSync(cgroup);
    expect(messageOf(ending, 2)).toMatch(
      tooBig(
        "0\\.\\d\\d GiB within the container's memory limit are free, --gpu-memory-utilization is 0\\.9",
      ),
    );
  });

  it("does not start where there are no addresses for it", async () => {
    const { exitCode, stdout, stderr } = await runUnder("ulimit -v 1000000", bigModel());
    expect({ exitCode, stdout }).toEqual({ exitCode: 2, stdout: "" });
    expect(stderr).toBe(
      "ucm: error: the address space is limited to 1024000000 bytes (ulimit -v), and each process of ucm reserves 2000000000, most of which it never uses. Raise it; to limit memory, use a cgroup or ulimit -d.",
    );
  });
});
