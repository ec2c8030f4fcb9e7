import { describe, expect, it } from "vitest";
import { corpusMissing, heldOutBooks } from "../helpers/corpus.js";
import {
  type AnswerRecord,
  answerPrompts,
  recordsOf,
  selectors,
  sumUp,
  tableOf,
} from "./sparse-answers.js";

// The full table of src/sparse/README.md:
//   UCM_ACCURACY_COUNT=200 UCM_ACCURACY_TOKENS=2048,4096,8192,16384 npx vitest run test/accuracy/esa.test.ts
const count = Number(process.env.UCM_ACCURACY_COUNT ?? 4);
const lengths = (process.env.UCM_ACCURACY_TOKENS ?? "1024").split(",").map(Number);
const threads = Number(process.env.UCM_ACCURACY_THREADS ?? 2);
const names = process.env.UCM_ACCURACY_SELECTORS?.split(",");
const DEFAULT = "default";

describe.runIf(corpusMissing === null)("answers under sparse attention", () => {
  it(
    "are the dense ones",
    async () => {
      const records: AnswerRecord[] = [];
      await answerPrompts({
        books: heldOutBooks(),
        selectors: selectors.filter(({ name }) => names?.includes(name) ?? true),
        ...{ first: 0, end: count, lengths, threads },
        onRecord: (record) => records.push(record),
      });
      console.log(tableOf(records));
      for (const tokens of lengths) {
        for (const facts of [1, 8]) {
          const rightOf = (selector: string, ratio: number) =>
            sumUp(recordsOf(records, { tokens, facts, selector, ratio })).right;
          const dense = rightOf("dense", 1);
          expect(dense).toBeGreaterThanOrEqual(0.75 * count);
          // One point of a hundred answers; of a few, one answer.
          const slack = Math.max(1, 0.01 * count);
          for (const ratio of [0.3, 0.2]) {
            expect(rightOf(DEFAULT, ratio), `${tokens} ${ratio}`).toBeGreaterThanOrEqual(
              dense - slack,
            );
          }
        }
      }
    },
    count * lengths.length * 300_000,
  );
});

if (corpusMissing !== null) {
  it("needs the held-out books", ({ skip }) => skip(`${corpusMissing}`));
}
