import { readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Quantization } from "../../src/messages/index.js";
import { loadTokenizer, type Tokenizer } from "../../src/tokenizer/index.js";
import { corpusMissing, heldOutBooks } from "../helpers/corpus.js";
import { blocks, generateTogether, loadRunner, type TestRunner } from "../helpers/runner.js";
import { buryFacts } from "./buried-facts.js";

// The full table of the README:
//   UCM_ACCURACY_COUNT=200 UCM_ACCURACY_TOKENS=1024,4096,8192 npx vitest run test/accuracy/recall.test.ts
const count = Number(process.env.UCM_ACCURACY_COUNT ?? 8);
const lengths = (process.env.UCM_ACCURACY_TOKENS ?? "1024").split(",").map(Number);
const quantization = (process.env.UCM_ACCURACY_QUANTIZATION ?? null) as Quantization;

const MODEL = new URL("../../models/ucm-demo", import.meta.url).pathname;
const { eos_token_id: eosTokenIds } = JSON.parse(
  readFileSync(join(MODEL, "generation_config.json"), "utf8"),
) as { eos_token_id: number[] };
const BLOCK_SIZE = 16;
const ANSWER_TOKENS_MAX = 12;

describe.runIf(corpusMissing === null)(
  "the demo model answers questions about buried facts",
  () => {
    let test: TestRunner;
    let tokenizer: Tokenizer;
    let books: string[];

    beforeAll(async () => {
      books = heldOutBooks();
      tokenizer = await loadTokenizer(MODEL);
      const numBlocks = Math.ceil(Math.max(...lengths) / BLOCK_SIZE) + 16;
      test = await loadRunner(MODEL, { quantization, numBlocks, kvDtype: "bfloat16" });
    });
    afterAll(() => test?.dispose());

    async function answer(prompt: string, chat: boolean): Promise<string> {
      const text = chat
        ? tokenizer.applyChatTemplate([{ role: "user", content: prompt }], {
            addGenerationPrompt: true,
          })
        : prompt;
      const tokenIds = tokenizer.encode(text);
      const numBlocks = Math.ceil((tokenIds.length + ANSWER_TOKENS_MAX) / BLOCK_SIZE);
      const own = { seqId: 0, prompt: tokenIds, blockIds: blocks(0, numBlocks), chunk: 2048 };
      const sampled = await generateTogether(test, [own], ANSWER_TOKENS_MAX);
      const output = sampled.get(0)!.map(({ tokenId }) => tokenId);
      const end = output.findIndex((tokenId) => eosTokenIds.includes(tokenId));
      return tokenizer.decode(end === -1 ? output : output.slice(0, end)).trim();
    }

    const kinds = [
      { name: "one fact, plain", facts: 1, chat: false },
      { name: "one fact, chat", facts: 1, chat: true },
      { name: "eight facts, plain", facts: 8, chat: false },
      { name: "eight facts, chat", facts: 8, chat: true },
    ];

    it.each(lengths)(
      "%i tokens",
      async (tokens) => {
        const right = new Map(kinds.map(({ name }) => [name, 0]));
        for (let i = 0; i < count; i++) {
          const { name, facts, chat } = kinds[i % kinds.length]!;
          const fact = buryFacts({
            books,
            tokens: tokens - 24,
            facts,
            chat,
            seed: i * 1000 + tokens,
            countTokens: (text) => tokenizer.encode(text).length,
          });
          if ((await answer(fact.prompt, chat)) === fact.answer)
            right.set(name, right.get(name)! + 1);
        }
        const total = [...right.values()].reduce((sum, value) => sum + value, 0);
        const parts = [...right].map(([name, value]) => `${name} ${value}/${count / kinds.length}`);
        console.log(`recall at ${tokens} tokens: ${total}/${count} (${parts.join("; ")})`);
        expect(total / count).toBeGreaterThanOrEqual(count < 50 ? 0.75 : 0.95);
      },
      count * 60_000,
    );
  },
);

if (corpusMissing !== null) {
  it("needs the held-out books", ({ skip }) => skip(`${corpusMissing}`));
}
