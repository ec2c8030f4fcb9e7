import { readFileSync } from "node:fs";
import { join } from "node:path";
import { loadTokenizer, type Tokenizer } from "../../src/tokenizer/index.js";
import { AnswerBench, type Selector } from "./answer-bench.js";
import { buryFacts } from "./buried-facts.js";

const MODEL = new URL("../../models/ucm-demo", import.meta.url).pathname;

export const ratios = [0.3, 0.2, 0.1, 0.05] as const;

/** One answer: to `facts` buried facts in about `tokens` tokens; ratio 1 is dense. */
export interface AnswerRecord {
  tokens: number;
  facts: number;
  selector: string;
  ratio: number;
  isRight: boolean;
  recalls: number[];
}

const common = {
  score: "representation",
  firstBy: "score",
  groupReduce: "max",
  stride: 5,
  nextShare: 0.7,
  driftCosine: 0,
} as const;

/**
 * The default, every score with its settings but for the first selection too, and mean as UCM has it: of
 * the mean of a group's queries.
 */
export const selectors: readonly Selector[] = [
  { ...common, name: "default", representation: "minmax", firstBy: "mass" },
  { ...common, name: "minmax", representation: "minmax" },
  { ...common, name: "oracle", representation: "minmax", score: "oracle" },
  { ...common, name: "random", representation: "minmax", score: "random" },
  { ...common, name: "cuboid", representation: "cuboid" },
  { ...common, name: "cuboid, next 0", representation: "cuboid", nextShare: 0 },
  { ...common, name: "mean", representation: "mean" },
  { ...common, name: "mean as UCM", representation: "mean", groupReduce: "mean", nextShare: 0 },
];

export interface AnswerOptions {
  books: readonly string[];
  selectors: readonly Selector[];
  /** Prompts [first, end) of each length and number of facts; the same number is the same prompt. */
  first: number;
  end: number;
  lengths: readonly number[];
  threads: number;
  onRecord(record: AnswerRecord): void;
}

/** Asks the demo model for buried facts, one of one and one of eight, half of them as chats. */
export async function answerPrompts(options: AnswerOptions): Promise<void> {
  const { lengths, threads } = options;
  const text = readFileSync(join(MODEL, "generation_config.json"), "utf8");
  const { eos_token_id: eos } = JSON.parse(text) as { eos_token_id: number[] };
  const tokenizer = await loadTokenizer(MODEL);
  const kinds = new Set(options.selectors.map(({ representation }) => representation));
  for (const [i, representation] of [...kinds].entries()) {
    const own = options.selectors.filter((other) => other.representation === representation);
    const maxTokens = Math.max(...lengths);
    const bench = await AnswerBench.open(MODEL, { selectors: own, maxTokens, eos, threads });
    for (const tokens of lengths) {
      for (const facts of [1, 8]) {
        const cell = { tokens, facts, selectors: own, reportsDense: i === 0 };
        await answerCell(bench, tokenizer, { ...options, ...cell });
      }
    }
    await bench.dispose();
  }
}

async function answerCell(
  bench: AnswerBench,
  tokenizer: Tokenizer,
  options: AnswerOptions & { tokens: number; facts: number; reportsDense: boolean },
): Promise<void> {
  const { tokens, facts } = options;
  for (let i = options.first; i < options.end; i++) {
    const chat = i % 2 === 1;
    const countTokens = (text: string) => tokenizer.encode(text).length;
    const seed = 7_000_000 + tokens * 1000 + facts * 500 + i;
    const { books } = options;
    const it = { books, tokens: tokens - 40, facts, chat, seed, countTokens };
    const { prompt, answer } = buryFacts(it);
    const message = [{ role: "user", content: prompt }];
    const text = chat
      ? tokenizer.applyChatTemplate(message, { addGenerationPrompt: true })
      : prompt;
    const isRight = (tokenIds: number[]) => tokenizer.decode(tokenIds).trim() === answer;
    const dense = await bench.answerDensely(tokenizer.encode(text));
    const record = { tokens, facts };
    if (options.reportsDense) {
      const it = { selector: "dense", ratio: 1, isRight: isRight(dense), recalls: [] };
      options.onRecord({ ...record, ...it });
    }
    for (const selector of options.selectors) {
      for (const ratio of ratios) {
        const { tokenIds, recalls } = await bench.answerSparsely(selector, ratio);
        const it = { selector: selector.name, ratio, isRight: isRight(tokenIds), recalls };
        options.onRecord({ ...record, ...it });
      }
    }
  }
}

/** The records of a cell of the table. */
export function recordsOf(
  records: readonly AnswerRecord[],
  cell: Pick<AnswerRecord, "tokens" | "facts" | "selector" | "ratio">,
): AnswerRecord[] {
  return records.filter(
    (record) =>
      record.tokens === cell.tokens &&
      record.facts === cell.facts &&
      record.selector === cell.selector &&
      record.ratio === cell.ratio,
  );
}

/** Of the records of one cell: answers right, answers, mean share of attention mass that was kept. */
export function sumUp(records: readonly AnswerRecord[]) {
  const recalls = records.flatMap((record) => record.recalls);
  return {
    right: records.filter(({ isRight }) => isRight).length,
    count: records.length,
    recall: recalls.reduce((sum, recall) => sum + recall, 0) / recalls.length,
  };
}

/** Markdown: a row per selector and ratio, a column per length and number of facts. */
export function tableOf(records: readonly AnswerRecord[]): string {
  const first = <T>(by: (record: AnswerRecord) => T) => [
    ...new Map(records.map((record) => [by(record), record])).values(),
  ];
  const columns = first(({ tokens, facts }) => `${tokens}/${facts}`);
  const rows = first(({ selector, ratio }) => `${selector} ${ratio}`);
  const cell = ({ selector, ratio }: AnswerRecord, { tokens, facts }: AnswerRecord) => {
    const own = recordsOf(records, { tokens, facts, selector, ratio });
    if (own.length === 0) return "";
    const { right, count, recall } = sumUp(own);
    const percent = ((100 * right) / count).toFixed(1);
    return Number.isNaN(recall) ? percent : `${percent} (${recall.toFixed(2)})`;
  };
  const heads = columns.map(({ tokens, facts }) => `${tokens} tokens, facts: ${facts}`);
  return [
    `| selector, ratio | ${heads.join(" | ")} |`,
    `| --- |${" --- |".repeat(columns.length)}`,
    ...rows.map((row) => {
      const cells = columns.map((column) => cell(row, column));
      return `| ${row.selector} ${row.ratio} | ${cells.join(" | ")} |`;
    }),
  ].join("\n");
}
