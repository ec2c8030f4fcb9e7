import { beforeAll, describe, expect, it } from "vitest";
import type { Quantization } from "../../src/messages/index.js";
import { loadTokenizer } from "../../src/tokenizer/index.js";
import { corpusMissing, heldOutBooks } from "../helpers/corpus.js";
import { blocks, greedy, loadRunner } from "../helpers/runner.js";

const MODEL = new URL("../../models/ucm-demo", import.meta.url).pathname;
const WINDOW = 1024;
const windows = Number(process.env.UCM_ACCURACY_WINDOWS ?? 8);

/** exp of the mean negative log-probability over windows of a held-out book, first tokens unscored. */
async function perplexity(
  quantization: Quantization,
  tokenIds: readonly number[],
): Promise<number> {
  const test = await loadRunner(MODEL, { quantization, numBlocks: WINDOW / 16 + 1 });
  let sum = 0;
  let count = 0;
  for (let i = 0; i < windows; i++) {
    const prompt = tokenIds.slice(i * WINDOW, (i + 1) * WINDOW);
    const result = await test.runner.step({
      type: "step",
      stepId: i,
      newSequences: [
        {
          seqId: i,
          promptTokenIds: Int32Array.from(prompt),
          sampling: { ...greedy, promptLogprobs: 0 },
        },
      ],
      scheduled: [
        {
          seqId: i,
          numComputedTokens: 0,
          numTokens: prompt.length,
          newBlockIds: Int32Array.from(blocks(0, WINDOW / 16)),
          resetBlockTable: true,
        },
      ],
      finished: i === 0 ? new Int32Array(0) : Int32Array.of(i - 1),
    });
    const { logprobs } = result.promptLogprobs[0]!.rows;
    for (const logprob of logprobs) sum -= logprob;
    count += logprobs.length;
  }
  await test.dispose();
  return Math.exp(sum / count);
}

describe.runIf(corpusMissing === null)("quantized weights on a held-out book", () => {
  let exact = 0;
  let tokenIds: number[] = [];
  beforeAll(async () => {
    const tokenizer = await loadTokenizer(MODEL);
    tokenIds = tokenizer.encode(heldOutBooks()[0]!).slice(0, WINDOW * windows);
    exact = await perplexity(null, tokenIds);
  });

  it.each([
    ["int8", 0.01],
    ["int4", 0.05],
  ] as const)(
    "%s stays within its share of fp32's perplexity (%f)",
    async (quantization, share) => {
      const quantized = await perplexity(quantization, tokenIds);
      const growth = quantized / exact - 1;
      console.log(
        `perplexity fp32 ${exact.toFixed(3)}, ${quantization} ${quantized.toFixed(3)} (${(growth * 100).toFixed(2)} %)`,
      );
      expect(exact).toBeGreaterThan(1);
      expect(Math.abs(growth)).toBeLessThan(share);
    },
  );
});

if (corpusMissing !== null) {
  it("needs the held-out books", ({ skip }) => skip(`${corpusMissing}`));
}
