import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, afterEach, describe, expect, it } from "vitest";
import type { WorkerGroup } from "../../src/launcher/index.js";
import type { Quantization } from "../../src/messages/index.js";
import { generateOn, launchRanks, logitError, tokenIdsOf } from "../helpers/tensor-parallel.js";

/** Every variant, size and format with 20 prompts of 64 tokens: some minutes. */
const isFull = process.env.UCM_TP_FULL !== undefined;

const folder = new URL("../fixtures/golden", import.meta.url).pathname;
const all = readdirSync(folder, { withFileTypes: true })
  .filter((entry) => entry.isDirectory())
  .map((entry) => entry.name);
/** One of each architecture: biases everywhere, one KV head for all, norms of heads, bf16 shards. */
const variants = isFull ? all : ["llama-linear", "mistral", "qwen3", "qwen2-sharded-bf16"];
const NUM_PROMPTS = isFull ? 20 : 4;
const NUM_TOKENS = isFull ? 64 : 24;
const PREFILL_ROWS = 40;
const TIMEOUT_MS = isFull ? 900_000 : 120_000;

let greatestError = 0;
afterAll(() => {
  const counts = `${variants.length} variants, ${NUM_PROMPTS} prompts of ${NUM_TOKENS} tokens`;
  console.log(`${counts}: logits differ by ${greatestError.toExponential(1)} at most`);
});

const groups: WorkerGroup[] = [];
afterEach(async () => {
  await Promise.all(groups.splice(0).map((group) => group.shutdown()));
});

async function launch(worldSize: number, variant: string, quantization: Quantization = null) {
  const group = await launchRanks(worldSize, { path: join(folder, variant), quantization });
  groups.push(group);
  return group;
}

/** Prompts of lengths that differ; the numbers are arbitrary. */
function promptsFor(variant: string): number[][] {
  const { vocab_size } = JSON.parse(readFileSync(join(folder, variant, "config.json"), "utf8"));
  return Array.from({ length: NUM_PROMPTS }, (_, i) =>
    Array.from(
      { length: 1 + ((i * 13) % PREFILL_ROWS) },
      (_, j) => (i * 31 + j * j * 7 + 3) % vocab_size,
    ),
  );
}

async function generate(worldSize: number, variant: string, quantization: Quantization = null) {
  const group = await launch(worldSize, variant, quantization);
  return generateOn(group, promptsFor(variant), NUM_TOKENS);
}

describe.each(variants)("%s in fp32", (variant) => {
  it(
    "gives the same text and logits on 1, 2 and 4 ranks",
    async () => {
      const expected = await generate(1, variant);
      for (const worldSize of [2, 4]) {
        const actual = await generate(worldSize, variant);
        expect(actual.map(tokenIdsOf)).toEqual(expected.map(tokenIdsOf));
        const errors = expected.flatMap((tokens, i) =>
          tokens.map((token, j) => logitError(token, actual[i]![j]!)),
        );
        expect(Math.max(...errors)).toBeLessThan(1e-4);
        greatestError = Math.max(greatestError, ...errors);
      }
    },
    TIMEOUT_MS,
  );
});

describe("two ranks", () => {
  it(
    "give the same bits in every run, batch and chunk",
    async () => {
      const [first, again] = [await generate(2, "qwen2"), await generate(2, "qwen2")];
      expect(again).toEqual(first);
      const prompts = promptsFor("qwen2");
      const group = await launch(2, "qwen2");
      const alone = await generateOn(group, [prompts.at(-1)!], NUM_TOKENS);
      expect(alone[0]!.map(({ logprobs }) => logprobs)).toEqual(
        first.at(-1)!.map(({ logprobs }) => logprobs),
      );
    },
    TIMEOUT_MS,
  );

  it.each<Quantization>(["int8", "int4"])(
    "compute %s weights close to one rank's",
    async (quantization) => {
      const expected = await generate(1, "llama", quantization);
      const actual = await generate(2, "llama", quantization);
      // A shard's rows are scaled by their own maxima, so its weights are others, as close to the originals.
      expect(logitError(expected[0]![0]!, actual[0]![0]!)).toBeLessThan(0.1);
      expect(await generate(2, "llama", quantization)).toEqual(actual);
    },
    TIMEOUT_MS,
  );
});
