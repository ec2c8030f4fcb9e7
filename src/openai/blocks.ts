import type { ParsedText } from "./parsers/index.js";

/** A run of output of one kind: reasoning, text, or the arguments of one call. */
export interface Block {
  kind: "reasoning" | "text" | "call";
  /** Place among the blocks of the answer. */
  index: number;
  text: string;
  /** Of a call. */
  callId: string;
  name: string;
}

export type BlockEvent =
  | { type: "open"; block: Block }
  | { type: "close"; block: Block }
  | { type: "delta"; block: Block; text: string };

/** Orders what was parsed into blocks, one open at a time. An answer has at least one. */
export class BlockSplitter {
  /** Complete or not, in order. */
  readonly blocks: Block[] = [];
  #open: Block | null = null;

  /** A whole answer in its blocks. */
  static split(parsed: ParsedText): BlockSplitter {
    const splitter = new BlockSplitter();
    // The events are for streams; here they only move it on.
    Array.from(splitter.push(parsed));
    Array.from(splitter.finish());
    return splitter;
  }

  *push({ reasoning, content, toolCalls }: ParsedText): Generator<BlockEvent> {
    if (reasoning !== "") yield* this.#add("reasoning", reasoning);
    if (content !== "") yield* this.#add("text", content);
    for (const { id, name = "", arguments: text } of toolCalls) {
      if (id !== undefined) yield* this.#begin("call", id, name);
      yield* this.#add("call", text);
    }
  }

  *finish(): Generator<BlockEvent> {
    if (this.blocks.length === 0) yield* this.#begin("text");
    yield* this.#close();
  }

  *#add(kind: Block["kind"], text: string): Generator<BlockEvent> {
    if (this.#open?.kind !== kind) yield* this.#begin(kind);
    const block = this.#open!;
    block.text += text;
    yield { type: "delta", block, text };
  }

  *#begin(kind: Block["kind"], callId = "", name = ""): Generator<BlockEvent> {
    yield* this.#close();
    this.#open = { kind, index: this.blocks.length, text: "", callId, name };
    this.blocks.push(this.#open);
    yield { type: "open", block: this.#open };
  }

  *#close(): Generator<BlockEvent> {
    if (this.#open !== null) yield { type: "close", block: this.#open };
    this.#open = null;
  }
}
