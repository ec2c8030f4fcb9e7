import { closeSync, openSync, writeSync } from "node:fs";
import { UcmError } from "../errors/index.js";
import type { Tokenizer } from "../tokenizer/index.js";
import { type PromptResult, toRecord } from "./offline-record.js";

/** Where answers go, in the order of the prompts. */
export interface OfflineOutput {
  /** Text of a prompt as it comes. */
  addText(index: number, text: string): void;
  finish(result: PromptResult): void;
  /** Writes what is finished but still waits for an earlier prompt, and closes. */
  close(): void;
}

/** Hands out items by rising index, holding back those that come early. */
class OrderedResults {
  readonly #waiting = new Map<number, PromptResult>();
  #next = 0;

  get next(): number {
    return this.#next;
  }

  /** Those that are due now that `result` is there. */
  add(result: PromptResult): PromptResult[] {
    this.#waiting.set(result.request.index, result);
    const due: PromptResult[] = [];
    for (let ready = this.#take(); ready !== undefined; ready = this.#take()) due.push(ready);
    return due;
  }

  /** All that still wait, by index. */
  rest(): PromptResult[] {
    return [...this.#waiting.values()].sort((a, b) => a.request.index - b.request.index);
  }

  #take(): PromptResult | undefined {
    const ready = this.#waiting.get(this.#next);
    if (ready === undefined) return undefined;
    this.#waiting.delete(this.#next);
    this.#next += 1;
    return ready;
  }
}

/** JSON records to a file, which is created at once so that a bad path shows before the work. */
export function openRecordFile(path: string, tokenizer: Tokenizer | null): OfflineOutput {
  const results = new OrderedResults();
  const file = attempt(path, () => openSync(path, "w"));
  const write = (due: PromptResult[]) => {
    for (const result of due) {
      attempt(path, () => writeSync(file, `${JSON.stringify(toRecord(result, tokenizer))}\n`));
    }
  };
  return {
    addText: () => {},
    finish: (result) => write(results.add(result)),
    close() {
      write(results.rest());
      closeSync(file);
    },
  };
}

function attempt<T>(path: string, action: () => T): T {
  try {
    return action();
  } catch (cause) {
    const reason = (cause as Error).message;
    throw new UcmError("UCM_ERR_OUTPUT_FILE", `Cannot write the output file ${path}: ${reason}.`, {
      cause,
    });
  }
}

/**
 * Text to a stream: the prompt whose turn it is appears as it is generated, a line end after each.
 * Without a tokenizer, and with several sequences per prompt, whole answers, a line each.
 */
export function textOutput(
  stream: { write(text: string): unknown },
  hasText: boolean,
): OfflineOutput {
  const results = new OrderedResults();
  const held = new Map<number, string>();
  let shown = 0;

  const show = (index: number) => {
    const text = held.get(index) ?? "";
    if (text.length > shown) stream.write(text.slice(shown));
    shown = Math.max(shown, text.length);
  };
  const write = (due: PromptResult[]) => {
    for (const { request, sequences } of due) {
      if (hasText) show(request.index);
      const whole = hasText ? sequences.slice(1) : sequences;
      if (hasText) stream.write("\n");
      for (const { text, tokenIds } of whole) {
        stream.write(`${hasText ? text : JSON.stringify(tokenIds)}\n`);
      }
      held.delete(request.index);
      shown = 0;
    }
    if (due.length > 0 && hasText) show(results.next);
  };
  return {
    addText(index, text) {
      if (!hasText) return;
      held.set(index, (held.get(index) ?? "") + text);
      if (index === results.next) show(index);
    },
    finish: (result) => write(results.add(result)),
    close: () => write(results.rest()),
  };
}
