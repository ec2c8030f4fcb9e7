import { readFileSync } from "node:fs";
import { seededRandom } from "../helpers/corpus.js";

/** Word lists and templates that the demo model was trained with. */
interface FactForms {
  adjectives: string[];
  nouns: string[];
  attributes: string[];
  statements: string[];
  questions: string[];
  plainQuestion: string;
  chatQuestion: string;
  valueDigits: [number, number];
}

const forms: FactForms = JSON.parse(
  readFileSync(new URL("../../models/ucm-demo/train/facts.json", import.meta.url), "utf8"),
);

export interface BuriedFact {
  /** The text with facts in it and the question at its end; in chat form, the user's message. */
  prompt: string;
  answer: string;
}

export interface BuriedFactOptions {
  books: readonly string[];
  /** About this many tokens in all. */
  tokens: number;
  /** Facts in the text; one of them is asked for. */
  facts: number;
  chat: boolean;
  seed: number;
  countTokens(text: string): number;
}

/** A passage of a book with facts between its sentences at uniformly random depths, and a question. */
export function buryFacts(options: BuriedFactOptions): BuriedFact {
  const random = seededRandom(options.seed);
  const pick = <T>(items: readonly T[]): T => items[Math.floor(random() * items.length)]!;
  const known = drawFacts(options.facts, pick, random);
  const asked = pick(known);
  const form = options.chat ? forms.chatQuestion : forms.plainQuestion;
  const question = form.replace("{question}", fill(pick(forms.questions), asked));
  const statements = known.map((fact) => fill(pick(forms.statements), fact));
  const spent = options.countTokens(` ${statements.join(" ")}${question}`);
  const sentences = drawPassage(options, options.tokens - spent, random);
  for (const statement of statements) {
    sentences.splice(Math.floor(random() * (sentences.length + 1)), 0, statement);
  }
  return { prompt: sentences.join(" ") + question, answer: asked.value };
}

interface Fact {
  attribute: string;
  adjective: string;
  noun: string;
  value: string;
}

function drawFacts(
  count: number,
  pick: (items: readonly string[]) => string,
  random: () => number,
): Fact[] {
  const [low, high] = forms.valueDigits;
  const facts = new Map<string, Fact>();
  while (facts.size < count) {
    const digits = low + Math.floor(random() * (high - low + 1));
    const value = String(10 ** (digits - 1) + Math.floor(random() * 9 * 10 ** (digits - 1)));
    const fact = {
      attribute: pick(forms.attributes),
      adjective: pick(forms.adjectives),
      noun: pick(forms.nouns),
      value,
    };
    facts.set(`${fact.attribute} ${fact.adjective} ${fact.noun}`, fact);
  }
  return [...facts.values()];
}

function fill(form: string, fact: Fact): string {
  return form.replace(/\{(\w+)\}/g, (_, key: keyof Fact) => fact[key]);
}

/** Consecutive sentences from a random place of a random book, just short of `tokens` tokens. */
function drawPassage(options: BuriedFactOptions, tokens: number, random: () => number): string[] {
  const CHARACTERS_PER_TOKEN_MAX = 8;
  const room = tokens * CHARACTERS_PER_TOKEN_MAX;
  const fitting = options.books.filter((book) => book.length > room);
  const books = fitting.length > 0 ? fitting : options.books;
  const book = books[Math.floor(random() * books.length)]!;
  const start = Math.floor(random() * Math.max(1, book.length - room));
  const sentences = book
    .slice(start, start + room)
    .split(/(?<=[.!?]["']?)\s+(?=["'A-Z])/)
    .slice(1);
  let used = 0;
  const end = sentences.findIndex((sentence) => {
    used += options.countTokens(` ${sentence}`);
    return used > tokens;
  });
  return end === -1 ? sentences : sentences.slice(0, end);
}
