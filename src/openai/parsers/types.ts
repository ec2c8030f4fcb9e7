/** News of one tool call: `id` and `name` come once, with its first piece of arguments. */
export interface ToolCallDelta {
  index: number;
  id?: string;
  name?: string;
  /** A piece of JSON text. */
  arguments: string;
}

/** What a piece of generated text turned out to be; empty where it is not certain yet. */
export interface ParsedText {
  reasoning: string;
  content: string;
  toolCalls: ToolCallDelta[];
}

/** Takes the text of one choice apart, as it comes; the cuts between pieces change nothing. */
export interface TextParser {
  push(text: string): ParsedText;
  /** What was held back, when no more text will come. */
  finish(): ParsedText;
}

/** Makes the id of a tool call. */
export type NewCallId = () => string;

export function parsed(parts: Partial<ParsedText> = {}): ParsedText {
  return { reasoning: "", content: "", toolCalls: [], ...parts };
}

/** Adds `news` to `text`, in place; pieces of one call become one. */
export function appendParsed(text: ParsedText, news: ParsedText): void {
  text.reasoning += news.reasoning;
  text.content += news.content;
  for (const call of news.toolCalls) {
    const known = text.toolCalls.find(({ index }) => index === call.index);
    if (known === undefined) text.toolCalls.push({ ...call });
    else known.arguments += call.arguments;
  }
}

/** Length of the longest end of `text` that is a beginning of `tag`, but not all of it. */
export function partialTagLength(text: string, tag: string): number {
  for (let length = Math.min(text.length, tag.length - 1); length > 0; length--) {
    if (tag.startsWith(text.slice(text.length - length))) return length;
  }
  return 0;
}
