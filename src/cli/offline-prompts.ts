import { readFileSync } from "node:fs";
import { extname } from "node:path";
import { z } from "zod";
import { nearestName } from "../config/nearest-name.js";
import { UcmError } from "../errors/index.js";
import { templateFields } from "../openai/chat-request.js";
import { int, string, tokenIds } from "../openai/fields.js";
import { pickSamplingFields, type SamplingFields } from "../openai/index.js";
import { samplingFields } from "../openai/sampling-fields.js";
import { grammarFields, readGrammar } from "../openai/structured-outputs.js";
import type { ChatMessage } from "../tokenizer/index.js";

/** What a prompt is made of: text, a conversation, or token ids. */
export type PromptSource =
  | { kind: "text"; text: string }
  | { kind: "messages"; messages: ChatMessage[] }
  | { kind: "tokens"; tokenIds: number[] };

export interface OfflinePrompt {
  /** For messages: "prompts.jsonl line 3", "--prompt 2". */
  origin: string;
  source: PromptSource;
  /** The prompt's own sampling fields; they win over the flags. */
  fields: SamplingFields;
  /** Lower first under the priority policy. */
  priority: number;
  cacheSalt: string | null;
}

const MAX_PROMPT_TOKENS = 1 << 24;

const promptKinds = ["prompt", "messages", "prompt_token_ids"] as const;

/** A line of a prompt file: one of the prompt kinds and any sampling field. */
const lineSchema = z.strictObject({
  ...samplingFields,
  ...grammarFields,
  logprobs: int().nullish(),
  priority: int().nullish(),
  cache_salt: string().nullish(),
  prompt: string().nullish(),
  messages: templateFields.messages.nullish(),
  prompt_token_ids: tokenIds(MAX_PROMPT_TOKENS).nullish(),
});

/**
 * The prompts of `ucm offline`, those of the command line first. UCM_ERR_PROMPT_FILE names the file
 * and the line of what is wrong; UCM_ERR_USAGE when there is no prompt at all.
 */
export function readPrompts(texts: readonly string[], file: string | null): OfflinePrompt[] {
  const prompts = texts.map((text, index) =>
    plainPrompt(text, texts.length === 1 ? "--prompt" : `--prompt ${index + 1}`),
  );
  if (file !== null) return [...prompts, ...readPromptFile(file)];
  if (prompts.length > 0) return prompts;
  throw new UcmError("UCM_ERR_USAGE", "one of the arguments --prompt-file --prompt is required");
}

/** .txt: the whole file is one prompt. .jsonl: a prompt per line; blank lines do not count. */
export function readPromptFile(path: string): OfflinePrompt[] {
  const extension = extname(path).toLowerCase();
  if (extension !== ".txt" && extension !== ".jsonl") {
    throw fileError(
      `The prompt file ${path} must end in .txt (one prompt) or .jsonl (one per line).`,
    );
  }
  const text = readText(path);
  if (text.trim() === "") throw fileError(`The prompt file ${path} is empty.`);
  if (extension === ".txt") {
    return [plainPrompt(text, path)];
  }
  return text
    .split("\n")
    .map((line, index) => ({ line, origin: `${path} line ${index + 1}` }))
    .filter(({ line }) => line.trim() !== "")
    .map(({ line, origin }) => parseLine(line, origin));
}

function plainPrompt(text: string, origin: string): OfflinePrompt {
  return { origin, source: { kind: "text", text }, fields: {}, priority: 0, cacheSalt: null };
}

function readText(path: string): string {
  let bytes: Buffer;
  try {
    bytes = readFileSync(path);
  } catch (cause) {
    const { code, message } = cause as NodeJS.ErrnoException;
    const reason =
      code === "ENOENT" ? "there is no such file" : code === "EISDIR" ? "it is a folder" : message;
    throw fileError(`The prompt file ${path} cannot be read: ${reason}.`, cause);
  }
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch (cause) {
    throw fileError(`The prompt file ${path} is not UTF-8 text.`, cause);
  }
}

function parseLine(line: string, origin: string): OfflinePrompt {
  let content: unknown;
  try {
    content = JSON.parse(line);
  } catch (cause) {
    throw fileError(`${origin}: not valid JSON: ${(cause as Error).message}.`, cause);
  }
  if (typeof content !== "object" || content === null || Array.isArray(content)) {
    throw fileError(`${origin}: a line must be a JSON object such as {"prompt": "…"}.`);
  }
  const parsed = lineSchema.safeParse(content);
  if (!parsed.success) throw fileError(`${origin}: ${describeIssue(parsed.error.issues[0]!)}`);
  const given = promptKinds.filter((kind) => parsed.data[kind] != null);
  if (given.length !== 1) {
    const found = given.length === 0 ? "none" : given.join(" and ");
    throw fileError(
      `${origin}: give exactly one of prompt, messages and prompt_token_ids, not ${found}.`,
    );
  }
  const { prompt, messages, prompt_token_ids: ids, priority, cache_salt: salt } = parsed.data;
  const source: PromptSource =
    ids != null
      ? { kind: "tokens", tokenIds: ids }
      : messages != null
        ? { kind: "messages", messages }
        : { kind: "text", text: prompt ?? "" };
  const fields = { ...pickSamplingFields(parsed.data), ...readOutputGrammar(parsed.data, origin) };
  return { origin, source, fields, priority: priority ?? 0, cacheSalt: salt ?? null };
}

/** The grammar of a line's output as a sampling field, none for free text. */
function readOutputGrammar(line: z.output<typeof lineSchema>, origin: string) {
  try {
    const spec = readGrammar(line);
    return spec === null ? {} : { grammar: { spec, afterTokenId: null } };
  } catch (cause) {
    throw fileError(`${origin}: ${(cause as Error).message}`, cause);
  }
}

function describeIssue(issue: z.core.$ZodIssue): string {
  if (issue.code !== "unrecognized_keys") return `${issue.path.join(".")}: ${issue.message}.`;
  const key = issue.keys[0]!;
  const near = nearestName(key, Object.keys(lineSchema.shape));
  return `unknown field '${key}'.${near === null ? "" : ` Did you mean ${near}?`}`;
}

function fileError(message: string, cause?: unknown): UcmError {
  return new UcmError("UCM_ERR_PROMPT_FILE", message, { cause });
}
