import { createHash } from "node:crypto";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { execaNode } from "execa";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import {
  blockPresence,
  blockStatus,
  type KvArena,
  type KvStore,
  loadNative,
  type StoreSpec,
} from "../../src/native/index.js";
import { expectError } from "./addon.js";

const native = loadNative();
const numBlocks = 24;
const numLayers = 3;
const headDim = 64;
const blockSize = 16;

const sha256 = (text: string) => createHash("sha256").update(text).digest();
const keysOf = (names: string[]) => new Uint8Array(Buffer.concat(names.map(sha256)));
const names = (prefix: string, count: number) =>
  Array.from({ length: count }, (_, i) => `${prefix}${i}`);
const ids = (count: number, first = 0) => Int32Array.from({ length: count }, (_, i) => first + i);
const all = (statuses: Uint8Array, code: number) => expect([...new Set(statuses)]).toEqual([code]);

function createArena(): KvArena {
  return native.createArena({
    numBlocks,
    numLayers,
    blockSize,
    numQueryHeads: 2,
    numKvHeads: 1,
    headDim,
    dtype: "float32",
    rope: null,
  });
}

/** Fills the whole arena with keys and values that depend on `seed`. */
function fillArena(arena: KvArena, seed: number): void {
  const rows = numBlocks * blockSize;
  const q = new Float32Array(rows * 2 * headDim);
  const k = new Float32Array(rows * headDim);
  const v = new Float32Array(rows * headDim);
  arena.beginStep({
    queryStart: Int32Array.of(0, rows),
    contextLens: Int32Array.of(rows),
    blockStart: Int32Array.of(0, numBlocks),
    blockIds: ids(numBlocks),
  });
  for (let layer = 0; layer < numLayers; layer++) {
    native.fillRandom(k, seed * 10 + layer, 1);
    native.fillRandom(v, seed * 10 + layer + 5, 1);
    const strides = { qStride: 2 * headDim, kStride: headDim, vStride: headDim };
    const input = { layer, q, k, v, ...strides, qNorm: null, kNorm: null, normEps: 1e-6 };
    arena.forward(input, new Float32Array(q.length));
  }
}

const contentOf = (arena: KvArena, block: number) =>
  Buffer.concat(Array.from({ length: numLayers }, (_, layer) => arena.readBlock(block, layer)));

const builtAddon = resolve(import.meta.dirname, "../../build/native/ucm.node");

let folder: string;
let arena: KvArena;
let opened: KvStore[];

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "ucm-store-"));
  arena = createArena();
  opened = [];
});

afterEach(async () => {
  for (const store of opened) await store.close();
  arena.dispose();
  rmSync(folder, { recursive: true });
});

function openStore(parts: Pick<StoreSpec, "memory" | "files" | "queueBlocks">): KvStore {
  const store = native.createStore({
    namespace: sha256("a model"),
    about: "a model",
    bytesPerBlock: arena.bytesPerBlock,
    numLayers,
    blockSize,
    ...parts,
  });
  opened.push(store);
  return store;
}

const inMemory = () => ({ memory: { capacityBytes: 64 << 20 } });
const inFiles = () => ({ files: { backends: [folder] } });
const blockFiles = () =>
  readdirSync(folder, { recursive: true, encoding: "utf8" }).filter((name) => name.endsWith(".kv"));

describe.each([
  ["in memory", inMemory, blockPresence.memory],
  ["in files", inFiles, blockPresence.file],
  ["in memory before files", () => ({ ...inMemory(), ...inFiles() }), blockPresence.memory],
])("a store %s", (_, parts, where) => {
  it("gives back what was in the arena when it was dumped", async () => {
    const store = openStore(parts());
    const keys = keysOf(names("block", numBlocks));
    all(await store.lookup(keys), blockPresence.missing);
    fillArena(arena, 1);
    const before = ids(numBlocks).reduce<Buffer[]>((list, id) => {
      list.push(contentOf(arena, id));
      return list;
    }, []);
    const dumped = store.dump(keys, arena, ids(numBlocks));
    fillArena(arena, 2);
    all(await dumped, blockStatus.ok);
    all(await store.lookup(keys), where);
    const progress = new Int32Array(new SharedArrayBuffer(4));
    const loaded = store.load(keys, arena, ids(numBlocks).reverse(), progress);
    expect(store.waitProgress(progress, numLayers, 10_000)).toBe(true);
    expect(progress[0]).toBe(numLayers);
    all(await loaded, blockStatus.ok);
    for (let i = 0; i < numBlocks; i++) {
      expect(contentOf(arena, numBlocks - 1 - i).equals(before[i]!)).toBe(true);
    }
  });

  it("says which blocks are missing", async () => {
    const store = openStore(parts());
    all(await store.dump(keysOf(["a", "b"]), arena, ids(2)), blockStatus.ok);
    const statuses = await store.load(keysOf(["a", "x", "b"]), arena, ids(3));
    expect([...statuses]).toEqual([blockStatus.ok, blockStatus.missing, blockStatus.ok]);
    expect([...(await store.pin(keysOf(["x", "a"])))]).toEqual([0, 1]);
    store.unpin(keysOf(["a"]));
    expect([...(await store.forget(keysOf(["x", "a"])))]).toEqual([0, 1]);
    all(await store.lookup(keysOf(["a"])), blockPresence.missing);
    expect([...(await store.load(new Uint8Array(0), arena, ids(0)))]).toEqual([]);
  });

  it("refuses wrong arguments", async () => {
    const store = openStore(parts());
    const key = keysOf(["a"]);
    expectError(() => store.lookup(new Uint8Array(33)), "keys has 33 bytes, expected 32 for each");
    expectError(() => store.load(key, arena, ids(2)), "there are 1 keys, but 2 blockIds");
    const same = Int32Array.of(1, 1);
    expectError(() => store.load(keysOf(["a", "b"]), arena, same), "expected different blocks");
    expectError(() => store.dump(key, arena, ids(1, numBlocks)), `blockIds has ${numBlocks}`);
    expectError(() => store.dump(key, {} as KvArena, ids(1)), "arena is not a KV arena");
    await store.close();
    expectError(() => store.stats(), "stats: the store was closed");
  });
});

describe("a store in files", () => {
  it("is found by the next process, and by other ones at the same time", async () => {
    const first = openStore(inFiles());
    fillArena(arena, 3);
    const before = contentOf(arena, 0);
    all(await first.dump(keysOf(["a"]), arena, ids(1)), blockStatus.ok);
    const second = openStore({ ...inFiles(), ...inMemory() });
    all(await second.lookup(keysOf(["a"])), blockPresence.file);
    all(await second.load(keysOf(["a"]), arena, ids(1, 5)), blockStatus.ok);
    expect(contentOf(arena, 5).equals(before)).toBe(true);
    all(second.lookupMemory(keysOf(["a"])), blockPresence.memory);
    expect(blockFiles()).toEqual([
      `ucm-v1/blocks/${sha256("a model").toString("hex")}/${sha256("a").toString("hex").slice(0, 2)}/${sha256("a").toString("hex")}.kv`,
    ]);
  });

  it("has files as they are documented", async () => {
    const store = openStore(inFiles());
    fillArena(arena, 4);
    all(await store.dump(keysOf(["a"]), arena, ids(1)), blockStatus.ok);
    const file = readFileSync(join(folder, blockFiles()[0]!));
    expect(file.length).toBe(4096 + arena.bytesPerBlock);
    expect(file.toString("latin1", 0, 8)).toBe("UCMKVBLK");
    expect(file.readUInt32LE(8)).toBe(1);
    expect(file.subarray(16, 48).equals(sha256("a"))).toBe(true);
    expect(file.subarray(48, 80).equals(sha256("a model"))).toBe(true);
    expect(Number(file.readBigUInt64LE(80))).toBe(arena.bytesPerBlock);
    expect([file.readUInt32LE(88), file.readUInt32LE(92)]).toEqual([blockSize, numLayers]);
    expect(file.subarray(96 + 4 * numLayers, 4096).every((byte) => byte === 0)).toBe(true);
    expect(file.subarray(4096).equals(contentOf(arena, 0))).toBe(true);
  });

  it("finds damage, moves the file away, and stores the block anew", async () => {
    const store = openStore(inFiles());
    all(await store.dump(keysOf(["a", "b"]), arena, ids(2)), blockStatus.ok);
    const path = join(
      folder,
      blockFiles().find((name) => name.includes(sha256("b").toString("hex")))!,
    );
    expect(native.verifyBlockFile(path)).toEqual({
      status: blockStatus.ok,
      fileBytes: 4096 + arena.bytesPerBlock,
      inode: expect.any(BigInt),
      key: sha256("b").toString("hex"),
      namespace: sha256("a model").toString("hex"),
      bytesPerBlock: arena.bytesPerBlock,
      numLayers,
      blockSize,
    });
    const file = readFileSync(path);
    file[9000]! ^= 32;
    writeFileSync(path, file);
    expect(native.verifyBlockFile(path).status).toBe(blockStatus.corrupt);
    const statuses = await store.load(keysOf(["a", "b"]), arena, ids(2));
    expect([...statuses]).toEqual([blockStatus.ok, blockStatus.corrupt]);
    expect(native.verifyBlockFile(path).status).toBe(blockStatus.missing);
    expect(readdirSync(join(folder, "ucm-v1/quarantine"))).toHaveLength(1);
    expect(store.stats().files).toMatchObject({ corruptBlocks: 1, quarantinedBlocks: 1 });
    all(await store.dump(keysOf(["b"]), arena, ids(1)), blockStatus.ok);
    all(await store.load(keysOf(["b"]), arena, ids(1)), blockStatus.ok);
  });

  it("keeps to its capacity", async () => {
    const capacityBytes = 12 * (4096 + arena.bytesPerBlock);
    const store = openStore({ files: { backends: [folder], capacityBytes } });
    for (let round = 0; round < 4; round++) {
      await store.dump(keysOf(names(`${round}-`, 8)), arena, ids(8));
    }
    expect(blockFiles().length).toBeLessThanOrEqual(12);
    const { evictedBlocks, usedBytes } = store.stats().files!;
    expect(evictedBlocks).toBeGreaterThan(0);
    expect(usedBytes).toBeLessThanOrEqual(capacityBytes);
  });
});

describe("createStore", () => {
  const spec = () => ({
    namespace: sha256("a model"),
    bytesPerBlock: arena.bytesPerBlock,
    numLayers,
    blockSize,
  });

  it.each<[string, () => Partial<StoreSpec>, string]>([
    ["no tier", () => ({}), "names neither memory nor files"],
    ["a missing folder", () => ({ files: { backends: ["/no/such"] } }), "no folder '/no/such'"],
    ["no folder", () => ({ files: { backends: [] } }), "names no folder"],
    ["too little memory", () => ({ memory: { capacityBytes: 5 } }), "cannot hold one block"],
    [
      "too small a quota",
      () => ({ files: { backends: [folder], capacityBytes: 5 } }),
      "one block takes",
    ],
    [
      "an unknown sync policy",
      () => ({ files: { backends: [folder], syncPolicy: "all" as "none" } }),
      "syncPolicy is 'all', expected none or data",
    ],
    ["odd layers", () => ({ ...inMemory(), numLayers: 7 }), "is not a multiple of numLayers 7"],
    [
      "a short namespace",
      () => ({ files: { backends: [folder] }, namespace: new Uint8Array(31) }),
      "namespace has 31 elements, expected at least 32",
    ],
  ])("refuses %s", (_, parts, message) => {
    expectError(() => native.createStore({ ...spec(), ...parts() }), message);
  });
});

describe("a process with a store", () => {
  const run = (body: string) =>
    execaNode({ reject: false, nodeOptions: [] })`${[
      "-e",
      `const native = require(${JSON.stringify(builtAddon)});
       const arena = native.createArena({ numBlocks: 8, numLayers: 2, blockSize: 16,
         numQueryHeads: 1, numKvHeads: 1, headDim: 64, dtype: "float32", rope: null });
       const store = native.createStore({ namespace: new Uint8Array(32), numLayers: 2, blockSize: 16,
         bytesPerBlock: arena.bytesPerBlock, files: { backends: [${JSON.stringify(folder)}] } });
       const keys = require("node:crypto").randomBytes(8 * 32);
       const ids = Int32Array.from({ length: 8 }, (_, i) => i);
       ${body}`,
    ]}`;

  it("stays alive for what is under way, and no longer", async () => {
    const result = await run(
      `store.dump(keys, arena, ids).then((all) => console.log(all.join("")));`,
    );
    expect(result).toMatchObject({ exitCode: 0, stdout: "11111111" });
  });

  it("may exit at any moment", async () => {
    for (let i = 0; i < 5; i++) {
      const result = await run(`for (let i = 0; i < 20; i++) {
        store.dump(require("node:crypto").randomBytes(8 * 32), arena, ids);
        store.load(keys, arena, ids);
      }
      setTimeout(() => process.exit(7), ${i});`);
      expect(result).toMatchObject({ exitCode: 7, stderr: "" });
    }
  });

  it("may drop its arena and its store while they are in use", async () => {
    const result = await run(`const dumped = store.dump(keys, arena, ids);
      const loaded = store.load(keys, arena, ids);
      arena.dispose();
      Promise.all([dumped, loaded, store.close()]).then(() => console.log("done"));`);
    expect(result).toMatchObject({ exitCode: 0, stdout: "done" });
  });
});
