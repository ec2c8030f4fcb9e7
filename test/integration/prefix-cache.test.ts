import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { EngineConfig } from "../../src/config/engine-config.js";
import { Engine, type GenerateRequest } from "../../src/engine/index.js";
import {
  defaultSamplingParams,
  type Quantization,
  type SamplingParams,
} from "../../src/messages/index.js";
import { makeFolder, tinyConfig } from "../helpers/checkpoint.js";
import { testEngineConfig } from "../helpers/engine-config.js";
import { loadRunner, type TestRunner } from "../helpers/runner.js";

const BLOCK = 16;
const PROMPT_LENGTH = 20 * BLOCK;
const NEW_TOKENS = 6;

/** Tokens that look random and are the same in every run. */
function tokensOf(length: number, salt: number): number[] {
  return Array.from(
    { length },
    (_, i) =>
      (((i + 1) * 7919 + (salt + 3) * 104729 * (i + salt + 7)) >>> 3) % tinyConfig.vocab_size,
  );
}

interface Lab {
  engine: Engine;
  test: TestRunner;
}

/** An engine over a real worker's model, all in this process. */
async function openLab(
  quantization: Quantization,
  changes: {
    cache?: Partial<EngineConfig["cache"]>;
    scheduler?: Partial<EngineConfig["scheduler"]>;
  } = {},
): Promise<Lab> {
  const path = makeFolder({ "config.json": JSON.stringify(tinyConfig) });
  const base = testEngineConfig({ path, vocabSize: tinyConfig.vocab_size });
  const cache = { ...base.cache, blockSize: BLOCK, numBlocks: 3000, ...changes.cache };
  const scheduler = { ...base.scheduler, maxNumSeqs: 16, ...changes.scheduler };
  const { numBlocks } = cache;
  const test = await loadRunner(path, { loadFormat: "dummy", quantization, numBlocks });
  const executor = {
    execute: (step: Parameters<typeof test.runner.step>[0]) => test.runner.step(step),
  };
  const config = { ...base, cache, scheduler };
  return { engine: new Engine({ config, executor, tokenizer: null }), test };
}

interface Answer {
  tokenIds: number[];
  logprobs: number[][];
}

/** What a request gives, sequence by sequence, and how much of its prompt was found. */
async function ask(
  { engine }: Lab,
  promptTokenIds: number[],
  sampling: Partial<SamplingParams> = {},
  changes: Partial<GenerateRequest> = {},
) {
  const params = { ...defaultSamplingParams, temperature: 0, maxTokens: NEW_TOKENS, logprobs: 5 };
  const request: GenerateRequest = {
    requestId: "test",
    promptTokenIds,
    sampling: { ...params, ...sampling },
    priority: 0,
    cacheSalt: null,
    detokenize: false,
    ...changes,
  };
  const answers = Array.from({ length: request.sampling.n }, (): Answer => {
    return { tokenIds: [], logprobs: [] };
  });
  let cachedTokens = -1;
  for await (const { delta, numCachedTokens } of engine.generate(request)) {
    const answer = answers[delta.index]!;
    answer.tokenIds.push(...delta.tokenIds);
    answer.logprobs.push(...delta.logprobs!.map(({ logprobs }) => logprobs));
    cachedTokens = numCachedTokens;
  }
  return { answers, cachedTokens };
}

const wholeBlocks = (numTokens: number) => Math.floor(numTokens / BLOCK) * BLOCK;

const documents = [0, 1, 2].map((salt) => tokensOf(PROMPT_LENGTH, salt));

/** Prompts of which so many per cent are the beginning of a document. */
const prompts = [0, 50, 80, 100].flatMap((percent) =>
  Array.from({ length: 28 }, (_, i) => {
    const shared = (PROMPT_LENGTH * percent) / 100;
    const tail = tokensOf(PROMPT_LENGTH - shared, 100 * percent + i + 10);
    const tokenIds = [...documents[i % documents.length]!.slice(0, shared), ...tail];
    return { tokenIds, cachedTokens: wholeBlocks(Math.min(shared, PROMPT_LENGTH - 1)) };
  }),
);

describe.each<[string, Quantization]>([
  ["fp32", null],
  ["int8", "int8"],
  ["int4", "int4"],
])("%s, warm against cold", (_, quantization) => {
  const labs: Lab[] = [];
  let cold: Lab;
  let expected: Answer[][];

  const open = async (changes: Parameters<typeof openLab>[1]) => {
    const lab = await openLab(quantization, changes);
    labs.push(lab);
    return lab;
  };

  beforeAll(async () => {
    cold = await open({ cache: { enablePrefixCaching: false } });
    expected = [];
    for (const { tokenIds } of prompts) {
      const { answers, cachedTokens } = await ask(cold, tokenIds);
      expect(cachedTokens).toBe(0);
      expected.push(answers);
    }
  });
  afterAll(async () => {
    for (const { test } of labs) await test.dispose();
  });

  it("would show a wrong block: an answer depends on the first token of its prompt", async () => {
    expect(new Set(expected.map((answers) => JSON.stringify(answers))).size).toBe(3 * 28 + 3);
    const [document] = documents;
    const other = [(document![0]! + 1) % tinyConfig.vocab_size, ...document!.slice(1)];
    const { answers } = await ask(cold, other);
    expect(answers[0]!.logprobs).not.toEqual(expected.at(-28)![0]!.logprobs);
  });

  it.each([
    ["whole prompts", 2048],
    ["chunked prefill", 50],
  ])("is the same to the bit at every hit ratio, with %s", async (_name, maxNumBatchedTokens) => {
    const warm = await open({ scheduler: { maxNumBatchedTokens } });
    for (const document of documents) await ask(warm, document);
    const results = await Promise.all(prompts.map(({ tokenIds }) => ask(warm, tokenIds)));
    expect(results.map(({ answers }) => answers)).toEqual(expected);
    expect(results.map(({ cachedTokens }) => cachedTokens)).toEqual(
      prompts.map(({ cachedTokens }) => cachedTokens),
    );
    const again = await Promise.all(prompts.map(({ tokenIds }) => ask(warm, tokenIds)));
    expect(again.map(({ answers }) => answers)).toEqual(expected);
    for (const { cachedTokens } of again) expect(cachedTokens).toBe(PROMPT_LENGTH - BLOCK);
  });

  it("is the same when blocks run out: evictions, preemptions, resumed from the cache", async () => {
    // Six prompts of 21 blocks fill it; every sequence grows into a further block.
    const warm = await open({
      cache: { numBlocks: 6 * 21 + 3 },
      scheduler: { maxNumBatchedTokens: 200 },
    });
    const grown = { maxTokens: 3 * BLOCK };
    const results = await Promise.all(prompts.map(({ tokenIds }) => ask(warm, tokenIds, grown)));
    const firstTokens = results.map(({ answers }) =>
      answers.map(({ tokenIds, logprobs }) => ({
        tokenIds: tokenIds.slice(0, NEW_TOKENS),
        logprobs: logprobs.slice(0, NEW_TOKENS),
      })),
    );
    expect(firstTokens).toEqual(expected);
    const last = await ask(cold, prompts.at(-1)!.tokenIds, grown);
    expect(results.at(-1)!.answers).toEqual(last.answers);
    const { numPreemptions, prefixCacheHits, usedBlocks } = warm.engine.stats();
    expect(numPreemptions).toBeGreaterThan(0);
    expect(prefixCacheHits).toBeGreaterThan(0);
    expect(usedBlocks).toBe(0);
  });

  it("is the same on top of generated blocks, turn after turn", async () => {
    const warm = await open({});
    let conversation = tokensOf(37, 5);
    let known = 0;
    for (let turn = 0; turn < 5; turn++) {
      const fields = { maxTokens: 21 };
      const { answers, cachedTokens } = await ask(warm, conversation, fields);
      expect(answers).toEqual((await ask(cold, conversation, fields)).answers);
      expect(cachedTokens).toBe(wholeBlocks(known));
      // The last token was sampled, never computed.
      known = conversation.length + 20;
      conversation = [...conversation, ...answers[0]!.tokenIds, ...tokensOf(9, turn)];
    }
  });

  it("is the same for n sampled sequences, scored prompts and salts", async () => {
    const warm = await open({});
    const [document] = documents;
    const sampled = { n: 3, temperature: 1, seed: 7 };
    const several = await ask(warm, document!, sampled);
    expect(several.answers).toEqual((await ask(cold, document!, sampled)).answers);
    const scored = await ask(warm, document!, { promptLogprobs: 2 });
    expect(scored.cachedTokens).toBe(0);
    const salted = await ask(warm, document!, {}, { cacheSalt: "tenant" });
    expect(salted.cachedTokens).toBe(0);
    const plain = await ask(warm, document!);
    expect(plain.cachedTokens).toBe(PROMPT_LENGTH - BLOCK);
    expect([scored.answers, salted.answers]).toEqual([plain.answers, plain.answers]);
    expect(plain.answers).toEqual((await ask(cold, document!)).answers);
  });
});
