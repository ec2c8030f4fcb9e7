import { readFile } from "node:fs/promises";
import path from "node:path";
import { z } from "zod";
import { UcmError } from "../errors/index.js";
import { ChatTemplates, type NamedTemplates } from "./chat-template.js";
import { HfTokenizer } from "./hf-tokenizer.js";
import { compileTokenBytes } from "./token-bytes.js";
import {
  readTokenizerJson,
  specialTokenTexts,
  type TokenizerConfig,
  tokenizerConfigSchema,
} from "./tokenizer-json.js";
import type { Tokenizer } from "./types.js";

/**
 * Loads the tokenizer of a model folder: tokenizer.json, and where present tokenizer_config.json
 * and chat_template.jinja (which wins over the template in the former). UCM_ERR_TOKENIZER when a
 * file is missing, malformed or of a kind that is not supported.
 */
export async function loadTokenizer(folder: string): Promise<Tokenizer> {
  const file = path.join(folder, "tokenizer.json");
  const tokenizerText = await readOptional(file);
  if (tokenizerText === null) {
    throw new UcmError(
      "UCM_ERR_TOKENIZER",
      `There is no tokenizer.json in ${folder}. Give a folder that has one with --tokenizer, or serve token ids only with --skip-tokenizer-init.`,
    );
  }
  const config = await loadConfig(path.join(folder, "tokenizer_config.json"));
  const templateFile = path.join(folder, "chat_template.jinja");
  const templateText = await readOptional(templateFile);

  return inWords(file, () => {
    const json = readTokenizerJson(parseJson(tokenizerText), config);
    const templates = namedTemplates(config, templateText);
    return new HfTokenizer(
      json,
      config,
      compileTokenBytes(json.decoder),
      new ChatTemplates(templates, specialTokenTexts(config)),
    );
  });
}

async function loadConfig(file: string): Promise<TokenizerConfig> {
  const text = await readOptional(file);
  return inWords(file, () => tokenizerConfigSchema.parse(text === null ? {} : parseJson(text)));
}

function namedTemplates(config: TokenizerConfig, templateText: string | null): NamedTemplates {
  if (templateText !== null) return new Map([["default", templateText]]);
  const template = config.chat_template ?? [];
  if (typeof template === "string") return new Map([["default", template]]);
  return new Map(template.map(({ name, template: text }) => [name, text]));
}

/** The file's text, null when there is no such file. */
async function readOptional(file: string): Promise<string | null> {
  try {
    return await readFile(file, "utf8");
  } catch (error) {
    if (
      error instanceof Error &&
      "code" in error &&
      ["ENOENT", "ENOTDIR"].includes(`${error.code}`)
    )
      return null;
    throw new UcmError("UCM_ERR_TOKENIZER", `Cannot read ${file}: ${wordsOf(error)}`, {
      cause: error,
    });
  }
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new Error(`it is not valid JSON: ${wordsOf(error)}`, { cause: error });
  }
}

/** Runs `read`, naming the file in whatever goes wrong. */
function inWords<T>(file: string, read: () => T): T {
  try {
    return read();
  } catch (error) {
    throw new UcmError("UCM_ERR_TOKENIZER", `Cannot use ${file}: ${wordsOf(error)}`, {
      cause: error,
    });
  }
}

function wordsOf(error: unknown): string {
  if (error instanceof z.ZodError) {
    const issue = error.issues[0];
    return `${issue?.path.join(".") || "the file"}: ${issue?.message}`;
  }
  return error instanceof Error ? error.message : String(error);
}
