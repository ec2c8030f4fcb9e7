import { describe, expect, it } from "vitest";
import type { SparseReport } from "../../src/engine/index.js";
import { captureLog } from "../helpers/captured-log.js";
import { testSparseConfig } from "../helpers/engine-config.js";
import { flipBitInPlace, listBlockFiles } from "./file-damage.js";
import { rankServers } from "./rank-servers.js";
import { ask, BLOCK, bitsOf, type LabServer, tokensOf } from "./store-lab.js";

const PROMPT_BLOCKS = 12;
/** Of 13 blocks, less the first and the last two. */
const NUM_CANDIDATES = 10;
const documents = [0, 1, 2].map((salt) => tokensOf(PROMPT_BLOCKS * BLOCK + 3, salt));
const sampling = { maxTokens: 40, ignoreEos: true };
/** Stores write beside the answers. */
const PATIENT = { timeout: 15_000 };

const logged = captureLog();
const { folder, start } = rankServers();

/** Both ranks store in the one folder. */
const files = () => ({ kind: "files", backends: [folder()] }) as const;

const askAll = (server: LabServer) =>
  Promise.all(documents.map((document) => ask(server, document, sampling)));

const reportOf = ({ engine }: LabServer): SparseReport => engine.stats().sparse!;

/** That the engine has nothing of the sequences that ran, when the workers have heard of their end. */
async function expectAllGivenBack(server: LabServer): Promise<void> {
  await server.engine.drain();
  expect(reportOf(server)).toMatchObject({ running: 0, droppedBlocks: 0 });
  expect(reportOf(server).counts).toMatchObject({ representationBytes: 0, denseLayerBytes: 0 });
  expect(server.engine.stats().usedBlocks).toBe(0);
}

describe("sparse attention on two ranks", () => {
  it.each([
    ["a ratio of 1", { window: { ...testSparseConfig.window, ratio: 1 } }, 0],
    ["all layers dense", { denseLayers: 2 }, 2],
  ])("is dense to the bit with %s", async (_, sparse, least) => {
    const dense = await start({});
    const server = await start({ store: files(), sparse });
    for (let round = 0; round < 2; round++) {
      const [expected, answers] = await Promise.all([askAll(dense), askAll(server)]);
      expect(answers.map(bitsOf)).toEqual(expected.map(bitsOf));
    }
    await server.engine.drain();
    expect(reportOf(server).entered).toBeGreaterThanOrEqual(least);
    expect(reportOf(server)).toMatchObject({ refused: 0, lost: 0 });
  });

  it("leaves blocks to the store, each rank its own part, and finds them after a restart", async () => {
    const first = await start({ store: files(), sparse: {} });
    const answers = await askAll(first);
    expect(answers.map(({ tokenIds }) => tokenIds.length)).toEqual(documents.map(() => 40));
    await expectAllGivenBack(first);
    const { entered, keptBlocks } = reportOf(first);
    expect(entered).toBeGreaterThan(0);
    expect(keptBlocks).toBe(entered * (13 - NUM_CANDIDATES + 3));
    expect(reportOf(first)).toMatchObject({ refused: 0, lost: 0 });
    await first.stop();
    const numParts = listBlockFiles(folder()).length;
    expect(numParts).toBeGreaterThanOrEqual(2 * documents.length * PROMPT_BLOCKS);
    expect(numParts % 2).toBe(0);

    const again = await start({ store: files(), sparse: {} });
    const warm = await askAll(again);
    expect(warm.map(({ cachedTokens }) => cachedTokens)).toEqual(
      documents.map(() => PROMPT_BLOCKS * BLOCK),
    );
    // The first token is of dense attention over what was loaded.
    const firstToken = ({ logprobs }: (typeof warm)[number]) => logprobs[0];
    expect(warm.map(firstToken)).toEqual(answers.map(firstToken));
    await expectAllGivenBack(again);
    expect(reportOf(again)).toMatchObject({ refused: 0, lost: 0 });
    expect(reportOf(again).entered).toBeGreaterThan(0);
    expect(reportOf(again).recall.samples).toBeGreaterThan(0);
  });

  it.each([0, 1])("goes on dense when rank %i finds its part damaged", async (rank) => {
    const most = { maxTokens: 200, ignoreEos: true };
    const prompt = documents[0]!;
    const sparse = { score: "random", stride: 2, waitMs: 10_000 } as const;
    const server = await start({ store: files(), sparse });
    await ask(server, prompt, { maxTokens: 1 });
    await expect.poll(() => listBlockFiles(folder()).length, PATIENT).toBe(2 * PROMPT_BLOCKS);
    // Parts of one rank come first, then those of the other.
    const parts = listBlockFiles(folder())
      .slice(rank * PROMPT_BLOCKS)
      .slice(0, PROMPT_BLOCKS);
    let isDamaged = false;
    let numSparse = 0;
    const answer = await ask(server, prompt, most, {}, ({ tokenIds }) => {
      const { running, lost } = reportOf(server);
      if (lost === 0) numSparse = tokenIds.length;
      if (running === 0 || isDamaged) return;
      isDamaged = true;
      for (const { path } of parts) flipBitInPlace(path, 500);
    });
    expect(answer.tokenIds).toHaveLength(200);
    expect(reportOf(server)).toMatchObject({ entered: 1, lost: 1, refused: 0 });
    expect(logged()).toContain("could not be read back from the store");
    const dense = await start({});
    const soFar = [...prompt, ...answer.tokenIds.slice(0, numSparse)];
    const rest = await ask(dense, soFar, { ...most, maxTokens: 200 - numSparse });
    expect(answer.logprobs.slice(numSparse)).toEqual(rest.logprobs);
    await expectAllGivenBack(server);
  });
});
