import {
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { execa } from "execa";
import { afterEach, describe, expect, it } from "vitest";
import { blockStatus } from "../../src/native/index.js";
import { makeTempFolder } from "../helpers/temp-folder.js";
import { isRunning, runUcm, startUcm, until } from "../helpers/ucm-command.js";
import { blockPath, keyBytes, type OpenedStore, openStore } from "./cache-folder.js";

const opened: OpenedStore[] = [];

async function open(backends: string[], name: string, count: number): Promise<OpenedStore> {
  const store = await openStore(backends, name, count);
  opened.push(store);
  return store;
}

/** A folder that a server has used and left. */
async function leftBy(name: string, count: number) {
  const folder = makeTempFolder();
  const server = await openStore([folder], name, count);
  await server.store.close();
  return { folder, ...server };
}

afterEach(async () => {
  for (const { store } of opened.splice(0)) await store.close();
});

async function cache(...args: string[]) {
  const { exitCode, stdout, stderr } = await runUcm(["cache", ...args]);
  expect(stderr).not.toContain("    at ");
  return { exitCode, stdout, stderr };
}

async function cacheJson(...args: string[]) {
  const { exitCode, stdout } = await cache(...args, "--json");
  return { exitCode, ...JSON.parse(stdout) };
}

/** Changes a byte in the middle of a file. */
function spoil(path: string): void {
  const bytes = readFileSync(path);
  bytes[5_000]! ^= 4;
  writeFileSync(path, bytes);
}

/** A server that starts cleans up once; what comes after that is left to the test. */
const cleanedBy = (folder: string) =>
  until("the first cleaning", () => existsSync(join(folder, "ucm-v1/collected")), 30_000);

const quarantineOf = (folder: string) => readdirSync(join(folder, "ucm-v1/quarantine"));

describe("ucm cache ls", () => {
  it("lists models, blocks and sizes of several folders", async () => {
    const [a, b] = [makeTempFolder(), makeTempFolder()];
    const first = await open([a, b], "first", 12);
    const second = await open([a], "second", 3);
    const { folders } = await cacheJson("ls", "--blocks", `${a}:${b}`);
    expect(folders.map(({ folder }: { folder: string }) => folder)).toEqual([a, b]);
    const keys = folders.flatMap((folder: { blocks: { key: string }[] }) =>
      folder.blocks.map(({ key }) => key),
    );
    expect(keys.sort()).toEqual([...first.keys, ...second.keys].sort());
    const { stdout } = await cache("ls", a, b);
    expect(stdout).toMatch(new RegExp(`${second.namespace.slice(0, 12)} +second +3 +60.0 KiB`));
    expect(stdout).toMatch(/SERVERS {2}WHAT/);
  });

  it("takes the folders from a configuration when none is given", async () => {
    const { folder } = await leftBy("configured", 2);
    const transfer = {
      kv_connector: "UnifiedCacheConnectorV1",
      kv_role: "kv_both",
      kv_connector_extra_config: {
        ucm_connector_name: "UcmNfsStore",
        ucm_connector_config: { storage_backends: folder },
      },
    };
    const file = join(makeTempFolder(), "serve.yaml");
    writeFileSync(file, JSON.stringify({ "kv-transfer-config": transfer }));
    for (const args of [
      ["--kv-transfer-config", JSON.stringify(transfer)],
      ["--config", file],
    ]) {
      expect((await cache("ls", ...args)).stdout).toContain(`${folder}: 2 blocks in 1 namespace`);
    }
    const none = await cache("ls");
    expect(none).toMatchObject({ exitCode: 2 });
    expect(none.stderr).toContain("no folder: give one or several");
  });
});

describe("ucm cache stat", () => {
  it("tells of servers, pins and what a running one counted", async () => {
    const folder = makeTempFolder();
    const { store, keys } = await open([folder], "counted", 4);
    await store.lookup(keyBytes(keys[0]!, keys[1]!, "00".repeat(32)));
    await store.pin(keyBytes(keys[0]!));
    await cleanedBy(folder);
    const dead = join(folder, "ucm-v1/servers/0badcafe-7-11111111");
    mkdirSync(dead);
    utimesSync(dead, 1, 1);
    const countsAre = async () => {
      const stat = await cacheJson("stat", folder);
      return stat.total.counts.lookups === 3 ? stat : null;
    };
    await until("the counts", async () => (await countsAre()) !== null, 30_000);
    const { folders, total } = (await countsAre())!;
    expect(total).toMatchObject({
      servers: 1,
      counts: { lookups: 3, lookupHits: 2, dumpedBlocks: 4, corruptBlocks: 0 },
    });
    expect(folders[0]).toMatchObject({ blocks: 4, pinnedBlocks: 1, namespaces: 1 });
    const alive = folders[0].servers.map((server: { isAlive: boolean; pins: number }) => [
      server.isAlive,
      server.pins,
    ]);
    expect(alive.sort()).toEqual([
      [false, 0],
      [true, 1],
    ]);
    const { stdout } = await cache("stat", folder);
    expect(stdout).toContain("1 running, 1 dead");
    expect(stdout).toContain("3 blocks, 2 found (66.7 %)");
  });
});

describe("ucm cache verify", () => {
  it("finds every kind of damage, moves it to the quarantine, and exits with 1", async () => {
    const { folder, namespace, keys } = await leftBy("damaged", 8);
    const path = (i: number) => blockPath(folder, namespace, keys[i]!);
    expect(await cacheJson("verify", folder)).toMatchObject({
      ...{ exitCode: 0, blocks: 8, corrupt: [], unreadable: [] },
    });
    spoil(path(0));
    writeFileSync(path(1), readFileSync(path(1)).subarray(0, 6_000));
    writeFileSync(path(2), readFileSync(path(3)));
    const stray = join(folder, "ucm-v1/blocks", namespace, "zz");
    mkdirSync(stray);
    renameSync(path(4), join(stray, `${keys[4]}.kv`));
    const other = join(folder, "ucm-v1/blocks", "f".repeat(64), keys[5]!.slice(0, 2));
    mkdirSync(other, { recursive: true });
    renameSync(path(5), join(other, `${keys[5]}.kv`));

    const dry = await cacheJson("verify", "--dry-run", folder);
    expect(dry).toMatchObject({ exitCode: 1, blocks: 3 });
    expect(quarantineOf(folder)).toEqual([]);
    const found = await cacheJson("verify", folder);
    const reasons = found.corrupt.map(({ reason }: { reason: string }) => reason);
    expect(reasons.sort()).toEqual([
      `it is block ${keys[3]} by its header`,
      "it is in the folder of other keys",
      `it is of namespace ${namespace}`,
      "its bytes do not fit its checksums",
      "its bytes do not fit its checksums",
    ]);
    expect(found.corrupt.map((file: { quarantinedTo: string }) => existsSync(file.quarantinedTo))) //
      .toEqual(Array(5).fill(true));
    expect(quarantineOf(folder)).toHaveLength(5);
    const { exitCode, stdout } = await cache("verify", folder);
    expect(exitCode).toBe(0);
    expect(stdout).toMatch(/^3 blocks sound, .*; 0 corrupt, 0 unreadable, 0 removed meanwhile/);
  });

  it("leaves a running server to go on, which computes again what was damaged", async () => {
    const folder = makeTempFolder();
    const { store, arena, namespace, keys } = await open([folder], "running", 2);
    spoil(blockPath(folder, namespace, keys[0]!));
    expect((await cache("verify", folder)).exitCode).toBe(1);
    const loaded = await store.load(keyBytes(...keys), arena, Int32Array.of(1, 2));
    expect([...loaded]).toEqual([blockStatus.missing, blockStatus.ok]);
  });
});

describe("ucm cache gc", () => {
  it("removes the least recently used blocks and what the dead left, never a pinned block", async () => {
    const folder = makeTempFolder();
    const { store, namespace, keys } = await open([folder], "full", 6);
    await store.pin(keyBytes(keys[0]!));
    await cleanedBy(folder);
    const path = (i: number) => blockPath(folder, namespace, keys[i]!);
    for (const i of keys.keys()) utimesSync(path(i), 1_000_000 + i, 1_000_000 + i);
    const shard = join(folder, "ucm-v1/blocks", namespace, keys[0]!.slice(0, 2));
    writeFileSync(join(shard, `${"a".repeat(64)}.0badcafe-7-1.0.tmp`), "half");
    utimesSync(join(shard, `${"a".repeat(64)}.0badcafe-7-1.0.tmp`), 1, 1);
    writeFileSync(join(shard, "notes.txt"), "not ours");
    writeFileSync(join(folder, "ucm-v1/quarantine/x"), "bad");
    const dead = join(folder, "ucm-v1/servers/0badcafe-7-11111111");
    mkdirSync(join(dead, "pins"), { recursive: true });
    writeFileSync(join(dead, "stats"), "lookups 1\n");
    utimesSync(dead, 1, 1);
    const expected = {
      blocks: { count: 3 },
      temps: { count: 1 },
      quarantined: { count: 1 },
      servers: { count: 1 },
      kept: { count: 1 },
    };
    const limit = String(3 * 20_480);
    const dry = await cacheJson("gc", "--dry-run", "--max-bytes", limit, folder);
    expect(dry).toMatchObject({ exitCode: 0, ...expected });
    expect(keys.map((_, i) => existsSync(path(i)))).toEqual(Array(6).fill(true));
    const done = await cacheJson("gc", "--max-bytes", limit, folder);
    expect(done).toMatchObject({ exitCode: 0, ...expected, bytesLeft: 3 * 20_480 });
    expect(keys.map((_, i) => existsSync(path(i)))).toEqual([
      ...[true, false, false, false, true, true],
    ]);
    expect([existsSync(dead), existsSync(join(shard, "notes.txt"))]).toEqual([false, true]);
    const old = await cacheJson("gc", "--max-age", "1d", folder);
    expect(old).toMatchObject({ blocks: { count: 2 }, kept: { count: 1 }, temps: { count: 0 } });
    expect(existsSync(path(0))).toBe(true);
  });
});

describe("ucm cache rm", () => {
  it("removes a model, a namespace by its first digits, a block, or everything", async () => {
    const folder = makeTempFolder();
    const servers = [];
    for (const name of ["one", "two", "three"]) servers.push(await openStore([folder], name, 3));
    for (const { store } of servers) await store.close();
    const [one, two, three] = servers;
    const left = async () => {
      const { folders } = await cacheJson("ls", folder);
      const counts = folders[0].namespaces.map((n: { model: string; blocks: number }) => [
        n.model,
        n.blocks,
      ]);
      return Object.fromEntries(counts);
    };
    expect(await cacheJson("rm", "--model", "one", "--dry-run", folder)).toMatchObject({
      blocks: { count: 3 },
    });
    expect(await left()).toEqual({ one: 3, two: 3, three: 3 });
    await cache("rm", "--model", "one", "--yes", folder);
    expect(await left()).toEqual({ two: 3, three: 3 });
    await cache("rm", "--block", two!.keys[1]!.slice(0, 10), "--yes", folder);
    expect(await left()).toEqual({ two: 2, three: 3 });
    await cache("rm", "--namespace", three!.namespace.slice(0, 10), "--yes", folder);
    expect(await left()).toEqual({ two: 2 });
    expect((await cache("rm", "--all", "--yes", folder)).stdout).toContain("Removed 2 blocks of 1");
    expect(await left()).toEqual({});
    expect(readdirSync(join(folder, "ucm-v1/blocks"))).toEqual([]);
    expect(one!.keys).toHaveLength(3);
  });

  it("refuses while a running server uses it, unless forced; others' parts may go", async () => {
    const { folder } = await leftBy("idle", 2);
    const { store, namespace, keys } = await open([folder], "busy", 2);
    await until(
      "the server's word on its namespace",
      async () => (await cacheJson("stat", folder)).total.servers === 1,
      30_000,
    );
    const refused = await cache("rm", "--all", "--yes", folder);
    expect(refused.exitCode).toBe(1);
    expect(refused.stderr).toContain("a running server uses this part of the cache");
    expect(refused.stderr).toContain("(UCM_ERR_CACHE_IN_USE)");
    expect(await cacheJson("rm", "--model", "busy", "--yes", folder)).toMatchObject({
      error: { code: "UCM_ERR_CACHE_IN_USE" },
    });
    expect((await cache("rm", "--model", "idle", "--yes", folder)).exitCode).toBe(0);
    expect((await cache("rm", "--all", "--yes", "--force", folder)).exitCode).toBe(0);
    expect(existsSync(blockPath(folder, namespace, keys[0]!))).toBe(false);
    await store.close();
  });

  it.each([
    [["--yes"], "Give --namespace, --model, --block or --all."],
    [["--all", "--model", "x", "--yes"], "cannot be used with option"],
    [["--model", "nobody", "--yes"], "no model 'nobody' is in the cache"],
    [["--block", "", "--yes"], "is the start of 2 blocks"],
    [["--all"], "Nobody is here to ask: give --yes"],
  ])("says what is wrong with %s", async (args, message) => {
    const { folder } = await leftBy("kept", 2);
    const { exitCode, stderr } = await cache("rm", ...args, folder);
    expect(stderr).toContain(message);
    expect(exitCode).toBe(2);
    expect(readdirSync(join(folder, "ucm-v1/blocks"))).toHaveLength(1);
  });
});

describe("ucm cache, when something is wrong", () => {
  it.each([
    ["missing", () => "/nowhere/at/all", "there is no such folder"],
    ["empty", () => makeTempFolder(), "it is empty; no server has used it yet"],
    ["of something else", () => import.meta.dirname, "give the folder that storage_backends names"],
    ["a file", () => import.meta.filename, "it is not a folder"],
  ])("says that a folder is %s", async (_, folder, message) => {
    for (const operation of ["ls", "verify"]) {
      const { exitCode, stderr } = await cache(operation, folder());
      expect(stderr).toContain(message);
      expect(stderr).toContain("(UCM_ERR_CACHE_FOLDER)");
      expect(exitCode).toBe(2);
    }
  });

  it("points from the inside of a folder to the folder", async () => {
    const { folder } = await leftBy("inner", 1);
    const { stderr } = await cache("ls", join(folder, "ucm-v1/blocks"));
    expect(stderr).toContain("give the folder above ucm-v1");
  });

  it("says that it may not read", async () => {
    const { folder } = await leftBy("secret", 1);
    chmodSync(join(folder, "ucm-v1/servers"), 0);
    chmodSync(folder, 0o755);
    // The superuser may read everything.
    const asOther = process.getuid?.() === 0 ? { uid: 65_534, gid: 65_534 } : {};
    const { exitCode, stderr } = await startUcm(["cache", "ls", folder], {}, asOther);
    chmodSync(join(folder, "ucm-v1/servers"), 0o755);
    expect(String(stderr)).toMatch(
      /cannot read .*ucm-v1\/servers: Permission denied\. Run as a user/,
    );
    expect(exitCode).toBe(2);
  });

  it("does not wait for a mount that hangs, and leaves no process", async () => {
    const { folder } = await leftBy("hung", 1);
    const server = join(folder, "ucm-v1/servers/0badcafe-7-11111111");
    mkdirSync(server);
    // Whoever opens it waits in the kernel, as on a mount whose server is gone.
    await execa("mkfifo", [join(server, "reserved")]);
    const started = performance.now();
    const child = startUcm(["cache", "stat", folder, "--timeout", "1.5", "--json"]);
    const { exitCode, stdout } = await child;
    expect(JSON.parse(String(stdout)).error).toMatchObject({ code: "UCM_ERR_TIMEOUT" });
    expect(JSON.parse(String(stdout)).error.message).toContain("did not answer within 1.5 s");
    expect(exitCode).toBe(1);
    expect(performance.now() - started).toBeLessThan(20_000);
    expect(await isRunning(child.pid!)).toBe(false);
  });

  it("notices that the folder goes away", async () => {
    const { folder } = await leftBy("vanishing", 200);
    const child = startUcm(["cache", "verify", folder, "--json"]);
    await until("the start", async () => child.pid !== undefined);
    rmSync(folder, { recursive: true });
    const { exitCode, stdout } = await child;
    // Depending on how far it was: before it looked, or after.
    const { error } = JSON.parse(String(stdout));
    expect(["UCM_ERR_CACHE_FOLDER", "UCM_ERR_CACHE_LOST"]).toContain(error.code);
    expect([1, 2]).toContain(exitCode);
  });

  it.each([
    [["gc", "--max-bytes", "10X", "/tmp"], "Expected bytes, or a number with a unit"],
    [["gc", "--max-age", "7", "/tmp"], "Expected a number with a unit: 90s"],
    [["ls", "--timeout", "0", "/tmp"], "Expected a number of seconds above 0"],
    [["list", "/tmp"], "unknown command 'list'"],
    [["ls", "--nope", "/tmp"], "unknown option '--nope'"],
  ])("refuses %s", async (args, message) => {
    const { exitCode, stderr } = await cache(...args);
    expect(stderr).toContain(message);
    expect(stderr).toContain("usage: ucm cache {ls,stat,verify,gc,rm}");
    expect(exitCode).toBe(2);
  });
});
