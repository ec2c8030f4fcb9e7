import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Quantization } from "../../src/messages/index.js";
import { makeFolder, tinyConfig } from "../helpers/checkpoint.js";
import {
  blocks,
  generateTogether,
  greedy,
  loadRunner,
  type TestRunner,
} from "../helpers/runner.js";

const NEW_TOKENS = 6;
const BLOCKS_EACH = 40;

/** Tokens that look random and are the same in every run. */
function promptOf(length: number, salt: number): number[] {
  return Array.from(
    { length },
    (_, i) => (((i + 1) * 7919 + salt * 104729) >>> 3) % tinyConfig.vocab_size,
  );
}

const subject = promptOf(530, 1);

/** Logits of the subject (sequence 0) at each of its generated tokens. */
async function logitsOfSubject(
  test: TestRunner,
  options: { chunk?: number; mates?: number; firstBlock?: number } = {},
): Promise<Float32Array[]> {
  const { chunk, mates = 0, firstBlock = 0 } = options;
  const cut = chunk === undefined ? {} : { chunk };
  const own = { seqId: 0, prompt: subject, blockIds: blocks(firstBlock, BLOCKS_EACH), ...cut };
  const others = Array.from({ length: mates }, (_, i) => ({
    seqId: i + 1,
    prompt: promptOf(3 + i * 29, i + 2),
    blockIds: blocks((i + 1) * BLOCKS_EACH, BLOCKS_EACH),
    chunk: 5 + i,
  }));
  test.takeLogits();
  const rows: Float32Array[] = [];
  const runner = {
    ...test.runner,
    async step(message: Parameters<typeof test.runner.step>[0]) {
      const result = await test.runner.step(message);
      const taken = test.takeLogits();
      for (const [i, { seqId }] of result.sampled.entries()) if (seqId === 0) rows.push(taken[i]!);
      return result;
    },
  };
  await generateTogether({ ...test, runner }, [own, ...others], NEW_TOKENS);
  return rows;
}

function bitsOf(rows: readonly Float32Array[]): Uint8Array[] {
  return rows.map((row) => new Uint8Array(row.buffer));
}

describe.each<[string, Quantization]>([
  ["fp32", null],
  ["int8", "int8"],
  ["int4", "int4"],
])("%s logits, bit for bit", (_, quantization) => {
  let test: TestRunner;
  let alone: Uint8Array[];
  beforeAll(async () => {
    const folder = makeFolder({ "config.json": JSON.stringify(tinyConfig) });
    test = await loadRunner(folder, {
      loadFormat: "dummy",
      quantization,
      numBlocks: 17 * BLOCKS_EACH,
    });
    alone = bitsOf(await logitsOfSubject(test));
    expect(alone.length).toBe(NEW_TOKENS);
    expect(new Set(await logitsOfSubject(test).then((rows) => rows[0])).size).toBeGreaterThan(50);
  });
  afterAll(() => test.dispose());

  it("are the same inside a batch of 16", async () => {
    expect(bitsOf(await logitsOfSubject(test, { mates: 15 }))).toEqual(alone);
  });

  it.each([1, 7, 64, 512])("are the same with prefill chunks of %i", async (chunk) => {
    expect(bitsOf(await logitsOfSubject(test, { chunk }))).toEqual(alone);
    expect(bitsOf(await logitsOfSubject(test, { chunk, mates: 15 }))).toEqual(alone);
  });

  it("are the same in other blocks", async () => {
    expect(bitsOf(await logitsOfSubject(test, { firstBlock: 16 * BLOCKS_EACH }))).toEqual(alone);
  });

  it("are the same after preemption and recompute", async () => {
    expect(bitsOf(await logitsAfterPreemption(test))).toEqual(alone);
  });
});

/** Half of the tokens, then all blocks lost, then prompt and output recomputed in other blocks. */
async function logitsAfterPreemption(test: TestRunner): Promise<Float32Array[]> {
  const { runner } = test;
  const half = NEW_TOKENS / 2;
  let stepId = 0;
  let known = subject.length;
  test.takeLogits();
  const step = async (begin: number, end: number, newBlockIds: number[], reset: boolean) => {
    const result = await runner.step({
      type: "step",
      stepId: stepId++,
      newSequences:
        stepId === 1
          ? [{ seqId: 0, promptTokenIds: Int32Array.from(subject), sampling: greedy }]
          : [],
      scheduled: [
        {
          seqId: 0,
          numComputedTokens: begin,
          numTokens: end - begin,
          newBlockIds: Int32Array.from(newBlockIds),
          resetBlockTable: reset,
        },
      ],
      finished: new Int32Array(0),
    });
    known += result.sampled.length;
  };
  await step(0, known, blocks(0, BLOCKS_EACH), true);
  for (let i = 1; i < half; i++) await step(known - 1, known, [], false);
  const CHUNK = 100;
  const total = known;
  for (let begin = 0; begin < total; begin += CHUNK) {
    const end = Math.min(begin + CHUNK, total);
    await step(begin, end, begin === 0 ? blocks(BLOCKS_EACH, BLOCKS_EACH) : [], begin === 0);
  }
  for (let i = half + 1; i < NEW_TOKENS; i++) await step(known - 1, known, [], false);
  await runner.step({
    type: "step",
    stepId: -1,
    newSequences: [],
    scheduled: [],
    finished: Int32Array.of(0),
  });
  return test.takeLogits();
}
