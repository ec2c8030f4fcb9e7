import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import {
  defaultSamplingParams,
  type StoreConfig,
  type StoreKind,
} from "../../src/messages/index.js";
import { listBlockFiles } from "./file-damage.js";
import {
  ask,
  BLOCK,
  bitsOf,
  type LabAnswer,
  type LabServer,
  type ServerChanges,
  startServer,
  tokensOf,
} from "./store-lab.js";

const PROMPT_BLOCKS = 20;
const PROMPT_LENGTH = PROMPT_BLOCKS * BLOCK;
/** All but the block of the last token, which is computed whatever is there. */
const WHOLE_HIT = PROMPT_LENGTH - BLOCK;

/** Together more than the arena of 64 blocks holds. */
const documents = [0, 1, 2, 3, 4, 5].map((salt) => tokensOf(PROMPT_LENGTH, salt));

let folder: string;
const servers: LabServer[] = [];

async function start(changes: ServerChanges): Promise<LabServer> {
  const server = await startServer(changes);
  servers.push(server);
  return server;
}

function files(store: Partial<StoreConfig> = {}): Partial<StoreConfig> {
  return { kind: "files", backends: [folder], ...store };
}

function storeOf(kind: StoreKind): Partial<StoreConfig> {
  return kind === "dram" ? { kind } : files({ kind });
}

function blockFiles(): string[] {
  return listBlockFiles(folder).map(({ path }) => path);
}

const cold = new Map<string, LabAnswer[]>();

/** What a server without any cache says to each document. */
async function coldAnswers(changes: Omit<ServerChanges, "store">): Promise<LabAnswer[]> {
  const name = JSON.stringify(changes);
  const known = cold.get(name);
  if (known !== undefined) return known;
  const server = await startServer({
    ...changes,
    cache: { ...changes.cache, enablePrefixCaching: false },
    store: null,
  });
  const answers: LabAnswer[] = [];
  for (const document of documents) answers.push(await ask(server, document));
  await server.stop();
  cold.set(name, answers);
  return answers;
}

let expected: ReturnType<typeof bitsOf>[];

beforeAll(async () => {
  expected = (await coldAnswers({})).map(bitsOf);
});

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "ucm-kv-"));
});

afterEach(async () => {
  await Promise.all(servers.splice(0).map((server) => server.stop()));
  rmSync(folder, { recursive: true });
});

afterAll(() => expect(servers).toEqual([]));

async function askAll(server: LabServer): Promise<LabAnswer[]> {
  const answers: LabAnswer[] = [];
  for (const document of documents) answers.push(await ask(server, document));
  return answers;
}

describe.each<StoreKind>(["dram", "files", "pipeline"])("a store of kind %s", (kind) => {
  it.each([true, false])("gives back what the arena let go, prefix caching %s", async (caching) => {
    const server = await start({
      cache: { enablePrefixCaching: caching },
      store: storeOf(kind),
    });
    const first = await askAll(server);
    expect(first.map(bitsOf)).toEqual(expected);
    expect(first.map(({ cachedTokens }) => cachedTokens)).toEqual(documents.map(() => 0));
    for (let round = 0; round < 2; round++) {
      const again = await askAll(server);
      expect(again.map(bitsOf)).toEqual(expected);
      expect(again.map(({ cachedTokens }) => cachedTokens)).toEqual(documents.map(() => WHOLE_HIT));
    }
    const { externalPrefixCache, prefixCacheHits, usedBlocks } = server.engine.stats();
    expect(externalPrefixCache!.hits).toBe(2 * documents.length * WHOLE_HIT - prefixCacheHits);
    expect(externalPrefixCache!.hits).toBeGreaterThan(documents.length * WHOLE_HIT);
    expect(usedBlocks).toBe(0);
  });

  it("gives the same to requests that come all at once, in chunks and with preemptions", async () => {
    const server = await start({
      scheduler: { maxNumBatchedTokens: 100 },
      store: storeOf(kind),
    });
    for (let round = 0; round < 3; round++) {
      const prompts = [...documents, ...documents];
      const answers = await Promise.all(prompts.map((tokenIds) => ask(server, tokenIds)));
      expect(answers.map(bitsOf)).toEqual([...expected, ...expected]);
    }
    expect(server.engine.stats().externalPrefixCache!.hits).toBeGreaterThan(0);
    expect(server.engine.stats().usedBlocks).toBe(0);
  });

  it("keeps generated blocks, turn after turn", async () => {
    const server = await start({ cache: { enablePrefixCaching: false }, store: storeOf(kind) });
    const plain = await start({ cache: { enablePrefixCaching: false }, store: null });
    let conversation = tokensOf(37, 5);
    let known = 0;
    for (let turn = 0; turn < 4; turn++) {
      const answer = await ask(server, conversation, { maxTokens: 21 });
      expect(bitsOf(answer)).toEqual(bitsOf(await ask(plain, conversation, { maxTokens: 21 })));
      expect(answer.cachedTokens).toBe(Math.floor(known / BLOCK) * BLOCK);
      known = conversation.length + 20;
      conversation = [...conversation, ...answer.tokenIds, ...tokensOf(9, turn)];
    }
  });
});

describe("files", () => {
  it.each<StoreKind>(["files", "pipeline"])("are found after a restart (%s)", async (kind) => {
    const before = await start({ store: storeOf(kind) });
    await askAll(before);
    await before.stop();
    expect(blockFiles()).toHaveLength(documents.length * PROMPT_BLOCKS);
    const after = await start({ store: storeOf(kind) });
    const answers = await askAll(after);
    expect(answers.map(bitsOf)).toEqual(expected);
    expect(answers.map(({ cachedTokens }) => cachedTokens)).toEqual(documents.map(() => WHOLE_HIT));
  });

  it("are found by another server that runs", async () => {
    const [one, other] = await Promise.all([start({ store: files() }), start({ store: files() })]);
    await ask(one, documents[0]!);
    await expect.poll(() => blockFiles().length).toBe(PROMPT_BLOCKS);
    const answer = await ask(other, documents[0]!);
    expect(bitsOf(answer)).toEqual(expected[0]);
    expect(answer.cachedTokens).toBe(WHOLE_HIT);
  });

  it("are kept apart by all that makes keys and values differ", async () => {
    const writer = await start({ store: files() });
    await askAll(writer);
    await writer.stop();
    const others: Omit<ServerChanges, "store">[] = [
      { model: { seed: 1 } },
      { model: { hfOverrides: { rope_theta: 5000 } } },
      { model: { hfOverrides: { rope_scaling: { rope_type: "linear", factor: 2 } } } },
      { model: { hfOverrides: { rms_norm_eps: 1e-5 } } },
      { model: { quantization: "int8" } },
      { cache: { kvDtype: "bfloat16" } },
      { cache: { blockSize: 32, numBlocks: 32 } },
      { cache: { blockHashSeed: "123456" } },
    ];
    for (const changes of others) {
      const other = await start({ ...changes, store: files({ canDump: false }) });
      const answers = await askAll(other);
      expect(answers.map(bitsOf)).toEqual((await coldAnswers(changes)).map(bitsOf));
      expect(answers.map(({ cachedTokens }) => cachedTokens)).toEqual(documents.map(() => 0));
      await other.stop();
    }
  });

  it("that are damaged are computed anew, moved away and written again", async () => {
    const writer = await start({ store: files() });
    await askAll(writer);
    await writer.stop();
    const damaged = blockFiles().filter((_, i) => i % 3 === 0);
    for (const [i, path] of damaged.entries()) {
      const bytes = readFileSync(path);
      const place = (i * 977) % bytes.length;
      bytes[place] = bytes[place]! ^ (1 << (i % 8));
      writeFileSync(path, i % 4 === 0 ? bytes.subarray(0, place) : bytes);
    }
    const reader = await start({ store: files() });
    const answers = await askAll(reader);
    expect(answers.map(bitsOf)).toEqual(expected);
    const found = answers.reduce((sum, { cachedTokens }) => sum + cachedTokens, 0);
    expect(found).toBeLessThan(documents.length * WHOLE_HIT);
    await reader.stop();
    const healed = await start({ store: files() });
    const again = await askAll(healed);
    expect(again.map(bitsOf)).toEqual(expected);
    expect(again.reduce((sum, { cachedTokens }) => sum + cachedTokens, 0)).toBeGreaterThan(found);
  });

  it("that are damaged fail the request under kv_load_failure_policy fail, and only that", async () => {
    const writer = await start({ store: files() });
    await askAll(writer);
    await writer.stop();
    for (const path of blockFiles()) {
      const bytes = readFileSync(path);
      writeFileSync(path, bytes.fill(0, bytes.length - 4096, bytes.length - 4000));
    }
    const reader = await start({ store: files({ loadFailurePolicy: "fail" }) });
    await expect(ask(reader, documents[0]!)).rejects.toMatchObject({ code: "UCM_ERR_KV_LOAD" });
    expect(reader.engine.stats()).toMatchObject({ running: 0, waiting: 0, usedBlocks: 0 });
    // The damaged files are gone by now.
    expect(bitsOf(await ask(reader, documents[0]!))).toEqual(expected[0]);
  });
});

describe("kv_role", () => {
  it("kv_producer only stores, kv_consumer only loads", async () => {
    const producer = await start({ store: files({ canLoad: false }) });
    await askAll(producer);
    const again = await askAll(producer);
    expect(again.map(bitsOf)).toEqual(expected);
    expect(producer.engine.stats().externalPrefixCache!.hits).toBe(0);
    await producer.stop();
    const written = blockFiles();
    expect(written).toHaveLength(documents.length * PROMPT_BLOCKS);

    const times = written.map((path) => statSync(path).mtimeMs);
    const consumer = await start({ store: files({ canDump: false }) });
    const answers = await askAll(consumer);
    expect(answers.map(bitsOf)).toEqual(expected);
    expect(answers.map(({ cachedTokens }) => cachedTokens)).toEqual(documents.map(() => WHOLE_HIT));
    await ask(consumer, tokensOf(PROMPT_LENGTH, 77));
    await consumer.stop();
    expect(blockFiles()).toEqual(written);
    expect(written.map((path) => statSync(path).mtimeMs)).toEqual(times);
  });
});

it("a salt keeps blocks apart in the store too", async () => {
  const server = await start({ cache: { enablePrefixCaching: false }, store: { kind: "dram" } });
  const [document] = documents;
  await ask(server, document!, {}, { cacheSalt: "one" });
  const other = await ask(server, document!, {}, { cacheSalt: "two" });
  expect(other.cachedTokens).toBe(0);
  const same = await ask(server, document!, {}, { cacheSalt: "one" });
  expect(same.cachedTokens).toBe(WHOLE_HIT);
  expect([other, same].map(bitsOf)).toEqual([expected[0], expected[0]]);
});

it("a memory store that is too small for all forgets the oldest and stays right", async () => {
  const bytesPerBlock = 2 * 2 * 2 * 32 * BLOCK * 4;
  const memoryBytes = 1.5 * PROMPT_BLOCKS * bytesPerBlock;
  const server = await start({
    cache: { enablePrefixCaching: false },
    store: { kind: "dram", memoryBytes },
  });
  for (let round = 0; round < 2; round++) {
    expect((await askAll(server)).map(bitsOf)).toEqual(expected);
  }
  const again = await ask(server, documents.at(-1)!);
  expect(again.cachedTokens).toBe(WHOLE_HIT);
});

it("what was found for a request that waits for room is still there when its turn comes", async () => {
  // While one generates, it fills the store's memory more than once, and the arena has no room.
  const [numRunning, numGenerated, numWaiting] = [38, 45, 46];
  const bytesPerBlock = 2 * 2 * 2 * 32 * BLOCK * 4;
  const server = await start({
    model: { maxModelLen: 2048 },
    cache: { enablePrefixCaching: false, numBlocks: numRunning + numGenerated + 1 },
    store: { kind: "dram", memoryBytes: (numRunning + numWaiting + 1) * bytesPerBlock },
  });
  const waiting = tokensOf(numWaiting * BLOCK, 8);
  const first = await ask(server, waiting);
  let resolve = () => {};
  const hasStarted = new Promise<void>((done) => {
    resolve = done;
  });
  const running = (async () => {
    const outputs = server.engine.generate({
      requestId: "running",
      promptTokenIds: tokensOf(numRunning * BLOCK, 9),
      sampling: {
        ...defaultSamplingParams,
        temperature: 0,
        maxTokens: numGenerated * BLOCK,
        ignoreEos: true,
      },
      priority: 0,
      cacheSalt: null,
      detokenize: false,
    });
    for await (const _ of outputs) resolve();
  })();
  await hasStarted;
  const again = await ask(server, waiting);
  await running;
  expect(bitsOf(again)).toEqual(bitsOf(first));
  expect(again.cachedTokens).toBe((numWaiting - 1) * BLOCK);
});

it("an aborted request gives its blocks back, whatever the store was doing", async () => {
  const server = await start({ cache: { enablePrefixCaching: false }, store: storeOf("files") });
  await askAll(server);
  for (let round = 0; round < 20; round++) {
    const gone = new AbortController();
    const request = ask(server, documents[round % 6]!);
    const aborted = server.engine.generate(
      {
        requestId: "aborted",
        promptTokenIds: documents[(round + 3) % 6]!,
        sampling: defaultSamplingParams,
        priority: 0,
        cacheSalt: null,
        detokenize: false,
      },
      gone.signal,
    );
    setTimeout(() => gone.abort(), round % 5);
    for await (const _ of aborted);
    expect(bitsOf(await request)).toEqual(expected[round % 6]);
  }
  await server.engine.drain();
  expect(server.engine.stats().usedBlocks).toBe(0);
  await server.stop();
  expect(readdirSync(join(folder, "ucm-v1", "servers"))).toEqual([]);
});
