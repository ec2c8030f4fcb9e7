import {
  closeSync,
  constants,
  existsSync,
  linkSync,
  openSync,
  readdirSync,
  renameSync,
  rmSync,
} from "node:fs";
import { basename, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { execaSync } from "execa";
import { afterEach, describe, expect, it } from "vitest";
import type { SparseReport } from "../../src/engine/index.js";
import type { SparseConfig, StoreConfig, StoreKind } from "../../src/messages/index.js";
import { captureLog } from "../helpers/captured-log.js";
import { makeTempFolder } from "../helpers/temp-folder.js";
import { flipBitInPlace, listBlockFiles } from "./file-damage.js";
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
/** Of 21 blocks, less the first and the last two. */
const NUM_CANDIDATES = 18;
const prompt = tokensOf(PROMPT_BLOCKS * BLOCK + 3, 1);
const NUM_TOKENS = 120;
/** Tokens of the sparse sequence before something happens to it. */
const NUM_BEFORE = 12;
const sampling = { maxTokens: NUM_TOKENS, ignoreEos: true };

/**
 * A random choice of 5 of 18 blocks in each layer, every other step: each block is read back some
 * dozen times, so that one that is gone is missed soon.
 */
const sparse: Partial<SparseConfig> = { score: "random", stride: 2, waitMs: 10_000 };

const STALL_MS = 5_000;
/** Stores write, report and clean up beside the answers. */
const PATIENT = { timeout: 15_000 };

const logged = captureLog();
const servers: LabServer[] = [];

async function start(changes: ServerChanges): Promise<LabServer> {
  const server = await startServer(changes);
  servers.push(server);
  return server;
}

/** A sparse server, and the folder where it has the blocks of the prompt already. */
async function startOverFiles(
  store: Partial<StoreConfig> = {},
  changes: Partial<SparseConfig> = {},
): Promise<{ server: LabServer; folder: string }> {
  const folder = makeTempFolder();
  const files = { kind: "files", backends: [folder], ...store } as const;
  const server = await start({ store: files, sparse: { ...sparse, ...changes } });
  await ask(server, prompt, { maxTokens: 1 });
  await expect.poll(() => listBlockFiles(folder).length, PATIENT).toBe(PROMPT_BLOCKS);
  return { server, folder };
}

afterEach(async () => {
  await Promise.all(servers.splice(0).map((server) => server.stop()));
});

const reportOf = ({ engine }: LabServer): SparseReport => engine.stats().sparse!;

/** Asks a sparse server, and does something to it in the middle of the answer. */
async function askAmidst(
  server: LabServer,
  fault: () => void,
): Promise<{ answer: LabAnswer; numSparse: number }> {
  let numEntered = 0;
  let numSparse = 0;
  const answer = await ask(server, prompt, sampling, {}, ({ tokenIds }) => {
    const { running, lost } = reportOf(server);
    if (lost === 0) numSparse = tokenIds.length;
    if (running === 1 && ++numEntered === NUM_BEFORE) fault();
  });
  expect(numEntered).toBeGreaterThanOrEqual(NUM_BEFORE);
  return { answer, numSparse };
}

/**
 * That a sequence which lost a block was computed again and was dense from then on: the rest of its
 * answer is, to the bit, what a dense server says to the prompt and the answer so far.
 */
async function expectDenseAfter(answer: LabAnswer, numSparse: number): Promise<void> {
  expect(numSparse).toBeGreaterThanOrEqual(NUM_BEFORE);
  expect(numSparse).toBeLessThan(NUM_TOKENS);
  const dense = await start({ store: null });
  const soFar = [...prompt, ...answer.tokenIds.slice(0, numSparse)];
  const rest = { ...sampling, maxTokens: NUM_TOKENS - numSparse };
  const { tokenIds, logprobs } = bitsOf(answer);
  expect({
    tokenIds: tokenIds.slice(numSparse),
    logprobs: logprobs.slice(numSparse),
  }).toEqual(bitsOf(await ask(dense, soFar, rest)));
  // The part before was sparse, and so not what dense attention says.
  const all = bitsOf(await ask(dense, prompt, sampling));
  expect(logprobs.slice(0, numSparse)).not.toEqual(all.logprobs.slice(0, numSparse));
}

function expectWhole({ tokenIds, numEnds }: LabAnswer): void {
  expect(tokenIds).toHaveLength(NUM_TOKENS);
  expect(numEnds).toBe(1);
}

/** That nothing of the sequences that ran is left in the arena, in the worker, or held in the store. */
async function expectAllGivenBack(server: LabServer, folder: string): Promise<void> {
  // The worker lets go of a sequence in the step after its last.
  await ask(server, tokensOf(BLOCK + 1, 2), { maxTokens: 1 });
  expect(reportOf(server)).toMatchObject({ running: 0, droppedBlocks: 0 });
  expect(reportOf(server).counts!.representationBytes).toBe(0);
  expect(server.engine.stats()).toMatchObject({ running: 0, waiting: 0, usedBlocks: 0 });
  await expect.poll(() => pinFiles(folder), PATIENT).toEqual([]);
}

describe("a block file, while its sequence generates", () => {
  it("may be removed: the sequence holds the block by a name of its own", async () => {
    const { server, folder } = await startOverFiles();
    const { answer } = await askAmidst(server, () => {
      for (const { path } of listBlockFiles(folder)) rmSync(path);
      expect(pinFiles(folder)).toHaveLength(NUM_CANDIDATES);
    });
    expectWhole(answer);
    expect(reportOf(server)).toMatchObject({ entered: 1, lost: 0, refused: 0 });
    await expectAllGivenBack(server, folder);
  });

  it.each([
    ["is deleted, with every name it has", deleteBlock],
    ["is corrupted", corruptBlock],
  ])("%s: the sequence is computed again, dense", async (_, damage) => {
    const { server, folder } = await startOverFiles();
    const { answer, numSparse } = await askAmidst(server, () => damage(folder));
    expectWhole(answer);
    expect(reportOf(server)).toMatchObject({ entered: 1, lost: 1, refused: 0 });
    expect(logged()).toContain("could not be read back from the store");
    await expectDenseAfter(answer, numSparse);
    await expectAllGivenBack(server, folder);

    // The next one finds all blocks again.
    expectWhole(await ask(server, prompt, sampling));
    expect(reportOf(server)).toMatchObject({ entered: 2, lost: 1, refused: 0 });
  });
});

describe("a store that is full from the start", () => {
  const bytesPerBlock = 2 * 2 * 2 * 32 * BLOCK * 4;
  const room = 8 * bytesPerBlock;

  it.each<StoreKind>(["dram", "files", "pipeline"])("leaves attention dense: %s", async (kind) => {
    const folder = makeTempFolder();
    const store: Partial<StoreConfig> = { kind, memoryBytes: room };
    const files = { backends: [folder], capacityBytes: room };
    const server = await start({ store: kind === "dram" ? store : { ...store, ...files }, sparse });
    const dense = await start({ store: null });
    const expected = bitsOf(await ask(dense, prompt, sampling));
    let numAsked = 0;
    // A slow store may say so only after the end of the first.
    for (; numAsked < 2 || reportOf(server).refused === 0; numAsked++) {
      const answer = await ask(server, prompt, sampling);
      expectWhole(answer);
      expect(bitsOf(answer)).toEqual(expected);
    }
    expect(reportOf(server)).toMatchObject({ entered: 0, lost: 0 });
    expect(logged()).toContain("has no room for its blocks");
    await expectAllGivenBack(server, folder);
    // What the store tells then is of later than the last of these sequences.
    const tiers = () => Object.values(server.engine.stats().stores[0]!.tiers);
    const numLookups = () => tiers()[0]!.lookups;
    await expect.poll(numLookups, PATIENT).toBe(PROMPT_BLOCKS + 1);
    expect(tiers().map(({ pinnedBlocks }) => pinnedBlocks)).toEqual(tiers().map(() => 0));
  });
});

// Either the step gives up first, or the store, which then keeps away from the device for a while.
const stalls = [
  { waitMs: 200, threads: 2 },
  { waitMs: 10_000, threads: 8 },
];

it(`a store that stalls for ${STALL_MS} ms costs a wait, and not the answer`, async () => {
  await Promise.all(
    stalls.map(async ({ waitMs, threads }) => {
      const { server, folder } = await startOverFiles({ threads }, { waitMs });
      let hasPassed: Promise<void> | undefined;
      const { answer, numSparse } = await askAmidst(server, () => {
        hasPassed = stall(folder);
      });
      expectWhole(answer);
      expect(reportOf(server)).toMatchObject({ entered: 1, lost: 1, refused: 0 });
      expect(reportOf(server).counts!.lateSteps).toBeGreaterThan(0);
      expect(reportOf(server).counts!.waitMicros).toBeGreaterThanOrEqual(200_000);
      await expectDenseAfter(answer, numSparse);
      await hasPassed;
      await expectAllGivenBack(server, folder);

      expectWhole(await ask(server, prompt, sampling));
      expect(reportOf(server)).toMatchObject({ entered: 2, lost: 1, refused: 0 });
    }),
  );
}, 60_000);

/** Names by which servers hold blocks; other links to the files of these. */
function pinFiles(folder: string): string[] {
  const root = join(folder, "ucm-v1", "servers");
  if (!existsSync(root)) return [];
  return readdirSync(root).flatMap((server) => {
    const pins = join(root, server, "pins");
    return readdirSync(pins).map((name) => join(pins, name));
  });
}

/** One that a sequence may need, by its names. */
function heldBlock(folder: string): { path: string; pin: string } {
  const pin = pinFiles(folder).sort()[NUM_CANDIDATES / 2]!;
  const { path } = listBlockFiles(folder).find(({ key }) => `${key}.kv` === basename(pin))!;
  return { path, pin };
}

function deleteBlock(folder: string): void {
  const { path, pin } = heldBlock(folder);
  rmSync(path);
  rmSync(pin);
}

/** Flips one bit in place, in the last layer. */
function corruptBlock(folder: string): void {
  flipBitInPlace(heldBlock(folder).path, 1000);
}

/**
 * Makes every opening of a block hang, as on a mount that does: a pipe without a writer takes the
 * place of the files. Resolves when they are back and those that hung go on.
 */
async function stall(folder: string): Promise<void> {
  const pipe = join(folder, "pipe");
  execaSync("mkfifo", [pipe]);
  const blocks = listBlockFiles(folder);
  for (const { path } of blocks) {
    renameSync(path, `${path}.aside`);
    linkSync(pipe, path);
  }
  await sleep(STALL_MS);
  for (const { path } of blocks) renameSync(`${path}.aside`, path);
  // Somebody hangs, or this fails.
  closeSync(openSync(pipe, constants.O_WRONLY | constants.O_NONBLOCK));
}
