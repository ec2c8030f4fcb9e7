import { cpSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { execa, type Options } from "execa";
import { makeTempFolder } from "./temp-folder.js";

export const root = resolve(import.meta.dirname, "../..");
export const demoModel = join(root, "models/ucm-demo");

const program = join(root, "bin/ucm.js");

/** The environment without what a developer's shell may set for ucm. */
function cleanEnvironment(env: Record<string, string> = {}): Record<string, string> {
  const kept = Object.entries(process.env).filter(([name]) => !/^(UCM|VLLM)_/.test(name));
  return { ...(Object.fromEntries(kept) as Record<string, string>), ...env };
}

/** Starts the built program as a user would, in a folder without configuration unless one is given. */
export function startUcm(args: string[], env: Record<string, string> = {}, options: Options = {}) {
  return execa(process.execPath, [program, ...args], {
    cwd: tmpdir(),
    stdin: "ignore",
    ...options,
    env: cleanEnvironment(env),
    extendEnv: false,
    reject: false,
  });
}

/** Runs it to its end. */
export async function runUcm(args: string[], env: Record<string, string> = {}) {
  const { exitCode, stdout, stderr } = await startUcm(args, env);
  return { exitCode, stdout: String(stdout), stderr: String(stderr) };
}

/** A copy of the demo model that a test may spoil. */
export function copyDemoModel(): string {
  const folder = makeTempFolder();
  cpSync(demoModel, folder, { recursive: true, filter: (path) => !path.includes("/train") });
  return folder;
}

/** Ids of the processes that a process has started and that still run. */
export async function childrenOf(pid: number): Promise<number[]> {
  const { stdout } = await execa("ps", ["-eo", "pid=,ppid=,stat="]);
  return stdout
    .split("\n")
    .map((line) => line.trim().split(/\s+/))
    .filter(([, parent, state]) => Number(parent) === pid && !state?.startsWith("Z"))
    .map(([child]) => Number(child));
}

/** True while a process runs; what has ended and was not collected yet does not. */
export async function isRunning(pid: number): Promise<boolean> {
  const { stdout } = await execa("ps", ["-o", "stat=", "-p", String(pid)], { reject: false });
  return stdout.trim() !== "" && !stdout.trim().startsWith("Z");
}

/** Waits until `condition` holds; fails after `timeoutMs`. */
export async function until(
  what: string,
  condition: () => boolean | Promise<boolean>,
  timeoutMs = 90_000,
): Promise<void> {
  const deadline = performance.now() + timeoutMs;
  while (!(await condition())) {
    if (performance.now() > deadline) throw new Error(`${what} did not happen in ${timeoutMs} ms`);
    await new Promise((done) => setTimeout(done, 30));
  }
}
