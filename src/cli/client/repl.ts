import { createInterface } from "node:readline";
import { toUcmError } from "../../errors/index.js";
import { OpenAIClient, type StreamChunk } from "./openai-client.js";

export interface ReplOptions {
  url: string;
  modelName: string | null;
  apiKey: string | null;
  /** Null: when standard output is a terminal. */
  timing: boolean | null;
  /** One input instead of those of standard input. */
  quick: string | null;
}

/** What an answer came to. */
export interface Answer {
  text: string;
  /** False when it was interrupted. */
  isComplete: boolean;
}

/** Connects, and says which model answers, as vLLM's clients do. */
export async function connect(options: ReplOptions) {
  const client = new OpenAIClient(options.url, options.apiKey ?? "EMPTY");
  const model = options.modelName ?? (await client.listModels())[0]!;
  process.stdout.write(`Using model: ${model}\n`);
  return { client, model };
}

/**
 * Asks `answer` for each line of standard input until it ends. Interrupting stops the answer that is
 * being written, and leaves when none is; errors of the server are told and the next line is asked for.
 */
export async function runRepl(
  greeting: string,
  options: ReplOptions,
  answer: (input: string, signal: AbortSignal) => AsyncGenerator<StreamChunk>,
  onAnswer: (input: string, answer: Answer) => void,
): Promise<number> {
  const timing = options.timing ?? process.stdout.isTTY === true;
  if (options.quick !== null) {
    const { quick } = options;
    const done = await printAnswer((signal) => answer(quick, signal), timing);
    return done.isComplete ? 0 : 130;
  }
  const keys = process.stdin.isTTY ? "(Ctrl-C stops an answer, Ctrl-D leaves.)\n" : "";
  process.stdout.write(`${greeting}\n${keys}`);
  const lines = createInterface({ input: process.stdin, output: process.stdout, prompt: "> " });
  lines.on("SIGINT", () => process.emit("SIGINT"));
  const leave = () => lines.close();
  process.on("SIGINT", leave);
  lines.prompt();
  for await (const input of lines) {
    process.off("SIGINT", leave);
    try {
      onAnswer(input, await printAnswer((signal) => answer(input, signal), timing));
    } catch (error) {
      process.stderr.write(`error: ${toUcmError(error).message}\n`);
    }
    process.on("SIGINT", leave);
    lines.prompt();
  }
  process.off("SIGINT", leave);
  return 0;
}

/** Prints a stream as it comes, then a line end; SIGINT ends it early. */
async function printAnswer(
  open: (signal: AbortSignal) => AsyncGenerator<StreamChunk>,
  timing: boolean,
): Promise<Answer> {
  const controller = new AbortController();
  const stop = () => controller.abort();
  process.once("SIGINT", stop);
  const clock = new AnswerClock();
  let text = "";
  let isComplete = true;
  try {
    for await (const chunk of open(controller.signal)) {
      const [choice] = chunk.choices;
      const piece = choice?.delta?.content ?? choice?.text ?? "";
      if (choice !== undefined) clock.addChunk();
      clock.numTokens = chunk.usage?.completion_tokens ?? clock.numTokens;
      text += piece;
      process.stdout.write(piece);
    }
  } catch (error) {
    if (!controller.signal.aborted) throw error;
    isComplete = false;
  } finally {
    process.off("SIGINT", stop);
  }
  process.stdout.write("\n");
  if (timing) process.stderr.write(`${clock.describe()}${isComplete ? "" : ", interrupted"}\n`);
  return { text, isComplete };
}

/** Shorter answers came in too few pieces for a rate. */
const MEASURABLE_S = 0.05;

/** Time to the first chunk and the rate after it. */
class AnswerClock {
  readonly #startMs = performance.now();
  #firstMs: number | null = null;
  #lastMs = 0;
  /** What the server says was generated; until it says so, the number of chunks. */
  numTokens = 0;
  #numChunks = 0;

  addChunk(): void {
    this.#lastMs = performance.now();
    this.#firstMs ??= this.#lastMs;
    this.#numChunks += 1;
  }

  describe(): string {
    if (this.#firstMs === null) return "(no tokens)";
    const tokens = this.numTokens > 0 ? this.numTokens : this.#numChunks;
    const ttft = ((this.#firstMs - this.#startMs) / 1000).toFixed(2);
    const decodeS = (this.#lastMs - this.#firstMs) / 1000;
    const rate = decodeS >= MEASURABLE_S ? `, ${((tokens - 1) / decodeS).toFixed(1)} tokens/s` : "";
    return `(${tokens} tokens, first after ${ttft} s${rate})`;
  }
}
