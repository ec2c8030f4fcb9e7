import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { blocks, generateTogether, loadRunner, type TestRunner } from "../helpers/runner.js";

interface Golden {
  prompts: { tokens: number[]; logits_last: number[]; greedy: number[] }[];
  logits_all: { tokens: number[]; logits: number[][] };
}

const folder = new URL("../fixtures/golden", import.meta.url).pathname;
const variants = readdirSync(folder, { withFileTypes: true })
  .filter((entry) => entry.isDirectory())
  .map((entry) => entry.name);
const BLOCKS = 8;

/** Norm of the difference over the norm of the expected values. */
function relativeError(actual: Float32Array, expected: readonly number[]): number {
  const sum = (values: readonly number[]) => values.reduce((total, value) => total + value ** 2, 0);
  return Math.sqrt(sum(expected.map((value, i) => value - actual[i]!)) / sum(expected));
}

it("has golden checkpoints of all four architectures", () => {
  const names = variants.map(
    (variant) =>
      JSON.parse(readFileSync(join(folder, variant, "config.json"), "utf8")).architectures[0],
  );
  expect(new Set(names)).toEqual(
    new Set(["Qwen2ForCausalLM", "Qwen3ForCausalLM", "LlamaForCausalLM", "MistralForCausalLM"]),
  );
});

describe.each(variants)("%s against transformers", (variant) => {
  const golden: Golden = JSON.parse(readFileSync(join(folder, variant, "golden.json"), "utf8"));
  let test: TestRunner;
  beforeAll(async () => {
    test = await loadRunner(join(folder, variant), { numBlocks: BLOCKS });
  });
  afterAll(() => test.dispose());

  const run = async (prompt: readonly number[], count: number) => {
    test.takeLogits();
    const own = { seqId: 0, prompt, blockIds: blocks(0, BLOCKS) };
    const sampled = await generateTogether(test, [own], count);
    return { tokenIds: sampled.get(0)!.map(({ tokenId }) => tokenId), logits: test.takeLogits() };
  };

  it.each(golden.prompts.map((prompt) => [prompt.tokens.length, prompt] as const))(
    "a prompt of %i tokens: logits and 64 greedy tokens",
    async (_, { tokens, logits_last, greedy }) => {
      const { tokenIds, logits } = await run(tokens, greedy.length);
      expect(relativeError(logits[0]!, logits_last)).toBeLessThan(1e-4);
      expect(tokenIds).toEqual(greedy);
    },
  );

  it("logits of every position", async () => {
    const { tokens, logits } = golden.logits_all;
    for (const [i, expected] of logits.entries()) {
      const { logits: actual } = await run(tokens.slice(0, i + 1), 1);
      expect(relativeError(actual[0]!, expected)).toBeLessThan(1e-4);
    }
  });
});
