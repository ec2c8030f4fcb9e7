import { once } from "node:events";
import { closeSync, constants, openSync, readSync } from "node:fs";
import { resolve } from "node:path";
import { execa } from "execa";
import { afterAll, describe, expect, it } from "vitest";
import { loadNative } from "../../src/native/index.js";
import { isRunning, until } from "../helpers/ucm-command.js";
import { expectError } from "./addon.js";

const native = loadNative();
const addon = JSON.stringify(resolve(import.meta.dirname, "../../build/native/ucm.node"));
const O_TMPFILE = 0o20000000 | constants.O_DIRECTORY;

const open = () => openSync("/dev/shm", constants.O_RDWR | O_TMPFILE, 0o600);
const spec = { rank: 0, worldSize: 1, timeoutMs: 10_000, spinMicros: 50 };

describe("a communicator", () => {
  const descriptors = [open(), open()];
  afterAll(() => descriptors.forEach(closeSync));

  it("joins processes that inherited its file", async () => {
    const script = `
      const native = require(${addon});
      const rank = Number(process.argv[1]);
      const comm = native.createCommunicator({ descriptor: 3, rank, worldSize: 3, timeoutMs: 10000, spinMicros: 0 });
      const values = Float32Array.of(rank + 0.1, rank * 10);
      comm.allReduceSum(values);
      const out = rank === 0 ? new Float32Array(8) : null;
      const part = rank === 2 ? new Float32Array(0) : Float32Array.of(rank, rank, rank + 10, rank + 10);
      comm.gatherColumns(part, 2, 4, out);
      const ids = Int32Array.of(rank === 0 ? 42 : 0, rank === 0 ? -1 : 0);
      comm.broadcast(ids);
      console.log(JSON.stringify([[...values], out && [...out], [...ids]]));
    `;
    const run = (rank: number) =>
      execa(process.execPath, ["-e", script, String(rank)], {
        stdio: ["ignore", "pipe", "inherit", descriptors[0] as 3],
      });
    const outputs = await Promise.all([0, 1, 2].map(run));
    const [first, ...others] = outputs.map(({ stdout }) => JSON.parse(String(stdout)));
    const sum = Math.fround(Math.fround(Math.fround(0.1) + Math.fround(1.1)) + Math.fround(2.1));
    expect(first).toEqual([
      [sum, 30],
      [0, 0, 1, 1, 10, 10, 11, 11],
      [42, -1],
    ]);
    for (const other of others) expect(other).toEqual([[sum, 30], null, [42, -1]]);
  });

  it("shows signs of life in its file", () => {
    const comm = native.createCommunicator({ ...spec, descriptor: descriptors[1]! });
    comm.noteProgress();
    comm.noteIdle();
    comm.noteIdle();
    const words = new BigUint64Array(2);
    expect(readSync(descriptors[1]!, words, 0, 16, 0)).toBe(16);
    expect([...words]).toEqual([1n, 2n]);
    comm.dispose();
    expectError(() => comm.noteProgress(), "the communicator was disposed");
  });

  it("checks what it is given", () => {
    const create = (changes: object) => () =>
      native.createCommunicator({ ...spec, descriptor: 9999, ...changes });
    expectError(create({}), "cannot allocate the memory that workers share");
    expectError(create({ worldSize: 65 }), "worldSize is 65, expected an integer from 1 to 64");
    expectError(create({ rank: 1 }), "rank is 1");
  });
});

describe("endWithParent", () => {
  it("ends a process whose parent was killed, whatever it is doing", async () => {
    const child = `require(${addon}).endWithParent(process.ppid); console.log("set"); for (;;);`;
    const parent = `
      const { spawn } = require("node:child_process");
      const child = spawn(process.execPath, ["-e", ${JSON.stringify(child)}], { stdio: "pipe" });
      child.stdout.on("data", () => console.log(child.pid));
    `;
    const killed = execa(process.execPath, ["-e", parent], { reject: false });
    const [line] = await once(killed.stdout, "data");
    const pid = Number(String(line));
    expect(await isRunning(pid)).toBe(true);
    killed.kill("SIGKILL");
    await until("the end of the child", async () => !(await isRunning(pid)), 1_000);
  });

  it("ends a process that has lost its parent before the call", async () => {
    const script = `require(${addon}).endWithParent(process.ppid + 1);`;
    const { signal } = await execa(process.execPath, ["-e", script], { reject: false });
    expect(signal).toBe("SIGKILL");
  });
});

it("pins a process to cores", async () => {
  const script = `
    const native = require(${addon});
    native.pinToCores(Int32Array.of(0));
    const status = require("node:fs").readFileSync("/proc/self/status", "utf8");
    console.log(/Cpus_allowed_list:\\s*(.*)/.exec(status)[1]);
  `;
  const { stdout } = await execa(process.execPath, ["-e", script]);
  expect(stdout).toBe("0");
  expectError(() => native.pinToCores(Int32Array.of(-1)), "core -1 does not exist");
});
