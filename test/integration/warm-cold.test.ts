import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import type { EngineConfig } from "../../src/config/engine-config.js";
import type { Quantization, StoreConfig } from "../../src/messages/index.js";
import { captureLog } from "../helpers/captured-log.js";
import { seededRandom } from "../helpers/corpus.js";
import { testEngineConfig, testStoreConfig } from "../helpers/engine-config.js";
import { makeTempFolder } from "../helpers/temp-folder.js";
import {
  BlockBook,
  noOrigins,
  type Origins,
  startWitnessed,
  type WitnessedServer,
} from "./block-witness.js";
import { damageFiles, listBlockFiles } from "./file-damage.js";
import { ask, bitsOf, type LabAnswer } from "./store-lab.js";

// Every model and format, with a thousand prompts each:
//   UCM_WARM_COLD_PROMPTS=1000 UCM_WARM_COLD_MODELS=all npx vitest run test/integration/warm-cold.test.ts
/** Warm prompts of each model and format, over the four caches. */
const count = Number(process.env.UCM_WARM_COLD_PROMPTS ?? 64);
const golden = new URL("../fixtures/golden/", import.meta.url).pathname;
const models = {
  qwen2: join(golden, "qwen2"),
  qwen3: join(golden, "qwen3"),
  llama3: join(golden, "llama3"),
  mistral: join(golden, "mistral"),
  "ucm-demo": new URL("../../models/ucm-demo", import.meta.url).pathname,
};
const names = Object.keys(models) as (keyof typeof models)[];
const chosen =
  process.env.UCM_WARM_COLD_MODELS === "all" ? names : (["qwen3", "ucm-demo"] as const);

const BLOCK = 16;
const LONGEST_BLOCKS = 24;
const NEW_TOKENS = 20;
/** Engines that come one after the other over the same folder. */
const LIVES = count < 400 ? 3 : 6;
/** Share of the files that are damaged between two lives. */
const DAMAGED = count < 400 ? 0.1 : 0.02;
/** Of a prompt, the share that an earlier one has too. */
const HIT_RATIOS = [0, 0.5, 0.8, 1];
const FORMATS: [string, Quantization][] = [
  ["fp32", null],
  ["int8", "int8"],
];

interface Cache {
  store: Partial<StoreConfig> | null;
  /** Of the arena; what does not fit must come from the store. */
  numBlocks: number;
  from: readonly (keyof Origins)[];
}

/** Memory, where it has any, holds a part of what is written. */
function caches(bytesPerBlock: number): Record<string, Cache> {
  const memoryBytes = 80 * Math.max(4096, bytesPerBlock);
  const numBlocks = 48;
  return {
    arena: { store: null, numBlocks: 1000, from: ["arena"] },
    UcmDram: { store: { kind: "dram", memoryBytes }, numBlocks, from: ["arena", "memory"] },
    UcmNfsStore: { store: { kind: "files" }, numBlocks, from: ["arena", "file"] },
    UcmPipelineStore: {
      store: { kind: "pipeline", memoryBytes },
      numBlocks,
      from: ["arena", "memory", "file"],
    },
  };
}

/**
 * Groups of four: a prompt, and others that share half, four fifths and all of it, in an order that
 * puts many of a group in the same life, and its last one in the next.
 */
function makePrompts(number: number, vocabSize: number, seed: number): number[][] {
  const random = seededRandom(seed);
  const fresh = (length: number) =>
    Array.from({ length }, () => 4 + Math.floor(random() * (vocabSize - 4)));
  const numGroups = Math.ceil(number / HIT_RATIOS.length);
  const placed = Array.from({ length: numGroups }, (_, group) => {
    const length = BLOCK * 2 + Math.floor(random() * BLOCK * (LONGEST_BLOCKS - 2));
    const first = fresh(length);
    // Apart, as what is asked for together is not there yet.
    const apart = Math.min(3, numGroups / 8);
    const places = [0, apart + random(), 2 * apart + random(), numGroups / LIVES];
    return HIT_RATIOS.map((ratio, i) => ({
      place: group + places[i]!,
      prompt: [...first.slice(0, length * ratio), ...fresh(length - Math.floor(length * ratio))],
    }));
  }).flat();
  placed.sort((a, b) => a.place - b.place);
  return placed.slice(0, number).map(({ prompt }) => prompt);
}

/** Asks for all prompts, one to five at a time. */
async function askAll(
  server: WitnessedServer,
  prompts: readonly number[][],
  random: () => number,
): Promise<LabAnswer[]> {
  const answers: LabAnswer[] = [];
  while (answers.length < prompts.length) {
    const together = prompts.slice(answers.length, answers.length + 1 + Math.floor(random() * 5));
    answers.push(
      ...(await Promise.all(
        together.map((prompt) => ask(server, prompt, { maxTokens: NEW_TOKENS, ignoreEos: true })),
      )),
    );
  }
  return answers;
}

function configOf(
  path: string,
  quantization: Quantization,
  { store, numBlocks }: Pick<Cache, "store" | "numBlocks">,
): EngineConfig {
  const { vocab_size: vocabSize } = JSON.parse(readFileSync(join(path, "config.json"), "utf8"));
  const base = testEngineConfig({ path, quantization, vocabSize, maxModelLen: 512 });
  return {
    ...base,
    cache: { ...base.cache, blockSize: BLOCK, numBlocks, kvBytes: numBlocks * 1000 },
    scheduler: { ...base.scheduler, maxNumBatchedTokens: 200 },
    store: store === null ? null : { ...testStoreConfig, ...store },
  };
}

/** Every life's prompts over one cache, compared with the cold answers and blocks. */
async function runCache(
  { store, numBlocks }: Cache,
  config: (cache: Pick<Cache, "store" | "numBlocks">) => EngineConfig,
  { prompts, expected, book }: Cold,
) {
  const random = seededRandom(prompts.length);
  const folder = makeTempFolder();
  const backends = store?.kind === "dram" ? [] : [folder];
  const base = config({ store: store === null ? null : { ...store, backends }, numBlocks });
  const origins: Origins = { ...noOrigins };
  let numDamaged = 0;
  let cachedTokens = 0;
  book.numCompared = 0;
  const perLife = Math.ceil(prompts.length / LIVES);
  for (let begin = 0; begin < prompts.length; begin += perLife) {
    // In every second life all must come from the store.
    const enablePrefixCaching = store === null || (begin / perLife) % 2 === 0;
    const cache = { ...base.cache, enablePrefixCaching };
    const server = await startWitnessed({ ...base, cache }, book);
    const end = Math.min(begin + perLife, prompts.length);
    const answers = await askAll(server, prompts.slice(begin, end), random);
    expect(answers.map(bitsOf)).toEqual(expected.slice(begin, end));
    cachedTokens += answers.reduce((sum, answer) => sum + answer.cachedTokens, 0);
    await server.stop();
    for (const key of Object.keys(origins) as (keyof Origins)[])
      origins[key] += server.origins[key];
    if (end < prompts.length) numDamaged += damageFiles(folder, DAMAGED, random);
  }
  const files = listBlockFiles(folder);
  const numGood = files.filter(({ path, key }) => book.checkFile(path, key)).length;
  return { origins, cachedTokens, numDamaged, numFiles: files.length, numGood };
}

interface Cold {
  prompts: number[][];
  expected: ReturnType<typeof bitsOf>[];
  book: BlockBook;
}

/** What a server without any cache answers and computes. */
async function runCold(config: EngineConfig): Promise<Cold> {
  const prompts = makePrompts(Math.ceil(count / 4), config.model.vocabSize, 7);
  const book = new BlockBook();
  const cache = { ...config.cache, enablePrefixCaching: false };
  const server = await startWitnessed({ ...config, cache }, book);
  const expected = (await askAll(server, prompts, seededRandom(1))).map(bitsOf);
  expect(server.origins.arena).toBe(0);
  await server.stop();
  book.isClosed = true;
  return { prompts, expected, book };
}

captureLog();

describe.each(chosen)("%s", (model) => {
  it.each(FORMATS)(
    "%s: tokens, log-probabilities and KV bytes from caches are those of a cold run",
    async (format, quantization) => {
      const config = (cache: Pick<Cache, "store" | "numBlocks">) =>
        configOf(models[model], quantization, cache);
      const cold = await runCold(config({ store: null, numBlocks: 200 }));
      for (const [name, cache] of Object.entries(caches(cold.book.bytesPerBlock))) {
        const seen = await runCache(cache, config, cold);
        const { origins, cachedTokens, numDamaged, numFiles, numGood } = seen;
        console.log(
          `${model} ${format} ${name}: ${cold.prompts.length} prompts in ${LIVES} lives, ${cachedTokens} tokens cached, ` +
            `blocks ${JSON.stringify(origins)}, ${cold.book.numCompared} comparisons, ` +
            `${numGood} of ${numFiles} files good, ${numDamaged} damaged`,
        );
        for (const origin of cache.from) expect(origins[origin], origin).toBeGreaterThan(0);
        expect(numFiles - numGood).toBeLessThanOrEqual(numDamaged);
        if (numDamaged > 20) expect(origins.corrupt + origins.lost).toBeGreaterThan(0);
      }
    },
    60_000 + count * 2000,
  );
});
