import { readFileSync } from "node:fs";
import { execaSync } from "execa";
import { afterEach, describe, expect, it } from "vitest";
import type { SparseReport } from "../../src/engine/index.js";
import { defaultSamplingParams, type StoreKind } from "../../src/messages/index.js";
import { sparseBudget } from "../../src/sparse/index.js";
import { captureLog } from "../helpers/captured-log.js";
import { testSparseConfig } from "../helpers/engine-config.js";
import { makeTempFolder } from "../helpers/temp-folder.js";
import {
  ask,
  BLOCK,
  bitsOf,
  type LabServer,
  type ServerChanges,
  startServer,
  tokensOf,
} from "./store-lab.js";

// Longer prompts and more of them:
//   UCM_SPARSE_LENGTHS=1024,4096,8192 UCM_SPARSE_REQUESTS=1000 npx vitest run test/integration/sparse.test.ts
const lengths = (process.env.UCM_SPARSE_LENGTHS ?? "1024").split(",").map(Number);
const numRequests = Number(process.env.UCM_SPARSE_REQUESTS ?? 120);

const PROMPT_BLOCKS = 20;
const documents = [0, 1, 2, 3, 4, 5].map((salt) => tokensOf(PROMPT_BLOCKS * BLOCK + 3, salt));

captureLog();
const servers: LabServer[] = [];

async function start(changes: ServerChanges): Promise<LabServer> {
  const server = await startServer(changes);
  servers.push(server);
  return server;
}

const storeOf = (kind: StoreKind) =>
  kind === "dram" ? { kind } : { kind, backends: [makeTempFolder()] };

const reportOf = ({ engine }: LabServer): SparseReport => engine.stats().sparse!;

afterEach(async () => {
  await Promise.all(servers.splice(0).map((server) => server.stop()));
});

describe("what stays dense is dense to the bit", () => {
  it("at every prompt length up to four blocks and three tokens", async () => {
    const dense = await start({ store: null });
    const whole = await start({ store: {}, sparse: { window: { ...window, ratio: 1 } } });
    const sparse = await start({ store: {}, sparse: {} });
    for (let length = 1; length <= 4 * BLOCK + 3; length++) {
      const expected = bitsOf(await ask(dense, tokensOf(length, length)));
      expect(bitsOf(await ask(whole, tokensOf(length, length))), `${length}`).toEqual(expected);
      if (length >= 4 * BLOCK) continue;
      expect(bitsOf(await ask(sparse, tokensOf(length, length))), `${length}`).toEqual(expected);
    }
    expect(reportOf(whole).entered).toBe(0);
    expect(reportOf(sparse).entered).toBe(0);
  });

  it.each(lengths)("at a ratio of 1 with %i tokens, in any score's arena", async (length) => {
    const room = {
      model: { maxModelLen: length + 64 },
      cache: { numBlocks: Math.ceil(length / BLOCK) + 8 },
    };
    const dense = await start({ ...room, store: null });
    const expected = bitsOf(await ask(dense, tokensOf(length, 1)));
    for (const score of ["mean", "minmax", "cuboid"] as const) {
      const changes = { score, window: { ...window, ratio: 1 } };
      const sparse = await start({ ...room, store: {}, sparse: changes });
      for (let round = 0; round < 2; round++) {
        expect(bitsOf(await ask(sparse, tokensOf(length, 1)))).toEqual(expected);
      }
    }
  });
});

const window = { init: 1, local: 2, minBlocks: 4, ratio: 0.3 };

describe("dense layers", () => {
  const sampling = { maxTokens: 40, ignoreEos: true };
  const numLayers = 2;

  it("of the whole model are dense to the bit, and their blocks leave the arena", async () => {
    const dense = await start({ store: null });
    const server = await start({ store: {}, sparse: { denseLayers: numLayers, stride: 1 } });
    for (let round = 0; round < 2; round++) {
      const ends = [0, 1, BLOCK - 3].map((less) => documents[round]!.slice(0, -3 - less));
      const prompts = [...documents.slice(0, 2), ...ends];
      const [expected, answers] = await Promise.all(
        [dense, server].map((one) =>
          Promise.all(prompts.map((prompt) => ask(one, prompt, sampling))),
        ),
      );
      expect(answers!.map(bitsOf)).toEqual(expected!.map(bitsOf));
    }
    await server.engine.drain();
    const report = reportOf(server);
    expect(report.entered).toBeGreaterThanOrEqual(5);
    expect(report.peakSavedBytes).toBeGreaterThan(0);
    expect(report.peakDenseLayerBytes).toBeGreaterThan(report.peakSavedBytes);
    expect(report.counts!.denseLayerBytes).toBe(0);
    expect(report.recall.samples).toBe(0);
    expect(report.counts!.loadedPieces).toBe(0);
  });

  it.each([
    { init: 1, local: 2, minBlocks: 4, ratio: 0.3 },
    { init: 0, local: 1, minBlocks: 1, ratio: 0.1 },
    { init: 2, local: 1, minBlocks: 3, ratio: 0.99 },
  ])("are dense to the bit at every length around the windows of %j", async (given) => {
    const cache = { numBlocks: 256, enablePrefixCaching: false };
    const dense = await start({ store: null, cache });
    const changes = { window: given, denseLayers: numLayers, stride: 1 };
    const server = await start({ store: {}, cache, sparse: changes });
    const lengths = Array.from({ length: 6 * BLOCK + 2 }, (_, i) => i + 1);
    const askAll = (one: LabServer) =>
      Promise.all(lengths.map((length) => ask(one, tokensOf(length, length), { maxTokens: 24 })));
    const [expected, answers] = await Promise.all([askAll(dense), askAll(server)]);
    for (const [i, length] of lengths.entries()) {
      expect(bitsOf(answers[i]!), `${length}`).toEqual(bitsOf(expected[i]!));
    }
    await server.engine.drain();
    const sparse = { ...testSparseConfig, window: given };
    const most = lengths.filter((length) => sparseBudget(sparse, length, BLOCK) !== null);
    expect(reportOf(server)).toMatchObject({ running: 0, droppedBlocks: 0, refused: 0, lost: 0 });
    expect(reportOf(server).entered).toBeGreaterThan(most.length / 10);
    expect(reportOf(server).entered).toBeLessThanOrEqual(most.length);
    expect(server.engine.stats().usedBlocks).toBe(0);
  });

  it("survive preemption, prefix hits, n, and blocks that others hold", async () => {
    const dense = await start({ store: null });
    const cache = { numBlocks: 42 };
    const server = await start({ store: {}, cache, sparse: { denseLayers: numLayers } });
    const more = { maxTokens: 300, ignoreEos: true };
    for (let round = 0; round < 2; round++) {
      const answers = await Promise.all(documents.map((prompt) => ask(server, prompt, more)));
      for (const [i, prompt] of documents.entries()) {
        expect(bitsOf(answers[i]!)).toEqual(bitsOf(await ask(dense, prompt, more)));
      }
    }
    const { tokenIds } = await ask(server, documents[0]!, { ...sampling, n: 3 });
    expect(tokenIds).toHaveLength(3 * 40);
    await server.engine.drain();
    expect(server.engine.stats().numPreemptions).toBeGreaterThan(0);
    expect(server.engine.stats().usedBlocks).toBe(0);
    expect(reportOf(server)).toMatchObject({ running: 0, droppedBlocks: 0, refused: 0, lost: 0 });
    expect(reportOf(server).counts!.denseLayerBytes).toBe(0);
  });

  it("before others take what they need, and the others choose", async () => {
    const server = await start({ store: {}, sparse: { denseLayers: 1, recallEvery: 1 } });
    const answers = await Promise.all(documents.map((prompt) => ask(server, prompt, sampling)));
    expect(answers.map(({ tokenIds }) => tokenIds.length)).toEqual(documents.map(() => 40));
    await server.engine.drain();
    const report = reportOf(server);
    expect(report).toMatchObject({ running: 0, droppedBlocks: 0, refused: 0, lost: 0 });
    // 18 of 21 blocks are candidates and 13 of these leave: one layer of two is kept of all 18.
    expect(report.peakDenseLayerBytes / report.peakSavedBytes).toBeGreaterThan(0.4);
    expect(report.peakDenseLayerBytes / report.peakSavedBytes).toBeLessThan(0.7);
    expect(report.recall.samples).toBeGreaterThan(0);
    expect(report.counts!.loadedPieces).toBeGreaterThan(0);
  });
});

describe.each(["dram", "files", "pipeline"] as const)("sparse sequences over %s", (kind) => {
  it("hold a part of their blocks, beside dense ones, and give all back", async () => {
    const dense = await start({ store: null });
    const short = tokensOf(3 * BLOCK, 9);
    const expected = bitsOf(await ask(dense, short, { maxTokens: 40 }));
    const server = await start({ store: storeOf(kind), sparse: {} });
    for (let round = 0; round < 2; round++) {
      const answers = await Promise.all([
        ...documents.slice(0, 3).map((document) => ask(server, document, { maxTokens: 40 })),
        ask(server, short, { maxTokens: 40 }),
        ask(server, documents[3]!, { maxTokens: 20, n: 3 }),
      ]);
      expect(answers.map(({ tokenIds }) => tokenIds.length)).toEqual([40, 40, 40, 40, 60]);
      expect(bitsOf(answers[3]!)).toEqual(expected);
    }
    await server.engine.drain();
    const report = reportOf(server);
    expect(report).toMatchObject({ running: 0, droppedBlocks: 0, refused: 0, lost: 0 });
    expect(report.entered).toBeGreaterThanOrEqual(10);
    // 21 blocks of prompt, 18 of them candidates, of which 5 stay.
    expect(report.keptBlocks / report.promptBlocks).toBeCloseTo(8 / 21);
    expect(report.peakSavedBytes).toBeGreaterThan(0);
    expect(report.counts!.selections).toBeGreaterThan(report.entered);
    expect(report.counts!.sparse.steps).toBeGreaterThan(0);
    expect(report.counts!.representationBytes).toBe(0);
    expect(report.recall.mean).toBeGreaterThan(0.2);
    expect(report.recall.mean).toBeLessThanOrEqual(1);
    expect(server.engine.stats().usedBlocks).toBe(0);
  });
});

describe("sparse sequences that do not run through", () => {
  it("are preempted in an arena that is too small for all, and come to their end", async () => {
    const server = await start({ store: {}, sparse: {}, cache: { numBlocks: 42 } });
    const sampling = { maxTokens: 300, ignoreEos: true };
    const answers = await Promise.all(documents.map((prompt) => ask(server, prompt, sampling)));
    expect(answers.map(({ tokenIds }) => tokenIds.length)).toEqual(documents.map(() => 300));
    await server.engine.drain();
    const { numPreemptions, usedBlocks } = server.engine.stats();
    expect(numPreemptions).toBeGreaterThan(0);
    expect(usedBlocks).toBe(0);
    expect(reportOf(server)).toMatchObject({ running: 0, droppedBlocks: 0, lost: 0 });
  });

  it("give everything back when they are aborted, whatever they were doing", async () => {
    const server = await start({ store: storeOf("files"), sparse: { stride: 2 } });
    for (let round = 0; round < 30; round++) {
      const gone = new AbortController();
      const outputs = server.engine.generate(
        {
          requestId: "aborted",
          promptTokenIds: documents[round % documents.length]!,
          sampling: { ...defaultSamplingParams, maxTokens: 100, n: 1 + (round % 2) },
          priority: 0,
          cacheSalt: null,
          detokenize: false,
        },
        gone.signal,
      );
      let left = round % 12;
      for await (const _ of outputs) if (left-- === 0) gone.abort();
    }
    await server.engine.drain();
    const report = reportOf(server);
    expect(report).toMatchObject({ running: 0, droppedBlocks: 0, lost: 0 });
    expect(report.entered).toBeGreaterThan(0);
    expect(report.counts!.representationBytes).toBe(0);
    expect(server.engine.stats().usedBlocks).toBe(0);
  });

  it("leave no memory behind", async () => {
    const memoryBytes = 4 * 2 ** 20;
    const server = await start({ store: { memoryBytes }, sparse: { stride: 2 } });
    const run = async (count: number, salt: number) => {
      for (let i = 0; i < count; i += 8) {
        const prompts = Array.from({ length: 8 }, (_, j) => tokensOf(200, 100 + salt + i + j));
        await Promise.all(prompts.map((prompt) => ask(server, prompt, { maxTokens: 12 })));
      }
      return residentBytes(workerPid());
    };
    // Until what is allocated once has been: the heaps of a dense worker grow as much.
    const before = await run(240, 0);
    const after = await run(numRequests, 240);
    await server.engine.drain();
    const report = reportOf(server);
    expect(report.entered).toBeGreaterThan(numRequests / 2);
    expect(report).toMatchObject({ running: 0, droppedBlocks: 0, lost: 0 });
    expect(report.counts!.representationBytes).toBe(0);
    console.log(
      `worker: ${toMib(before)} MiB, after ${numRequests} more requests ${toMib(after)} MiB`,
    );
    expect(after - before).toBeLessThan(24 * 2 ** 20);
  });
});

const toMib = (bytes: number) => (bytes / 2 ** 20).toFixed(1);

/** The one worker that this process has. */
const workerPid = () => Number(execaSync("pgrep", ["-P", `${process.pid}`]).stdout.split("\n")[0]);

/** Of a process. */
function residentBytes(pid: number): number {
  const status = readFileSync(`/proc/${pid}/status`, "utf8");
  return Number(/VmRSS:\s+(\d+) kB/.exec(status)![1]) * 1024;
}
