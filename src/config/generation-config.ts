import { readFileSync } from "node:fs";
import { join } from "node:path";
import { z } from "zod";
import { UcmError } from "../errors/index.js";
import { resolveFolder } from "./model-folder.js";

const tokenId = z.int().nonnegative();

/** Fields of generation_config.json that vLLM takes sampling defaults from. */
const samplingDefaults = z.looseObject({
  temperature: z.number().nullish(),
  top_p: z.number().nullish(),
  top_k: z.int().nullish(),
  min_p: z.number().nullish(),
  repetition_penalty: z.number().nullish(),
  max_new_tokens: z.int().positive().nullish(),
  eos_token_id: z.union([tokenId, z.array(tokenId)]).nullish(),
});

export interface GenerationDefaults {
  /** Sampling defaults in OpenAI field names: max_new_tokens is max_tokens here. */
  sampling: Readonly<Record<string, number>>;
  eosTokenIds: readonly number[];
  /** The file that was read, null when there was none. */
  source: string | null;
}

/**
 * Sampling defaults as `--generation-config` asks: `auto` reads the model's generation_config.json
 * if there is one, `vllm` none, else the one in the folder named. `overrides` go over it.
 */
export function loadGenerationDefaults(
  mode: string,
  modelPath: string,
  overrides: Record<string, unknown>,
): GenerationDefaults {
  const path = fileOf(mode, modelPath);
  const content = path === null ? null : readJson(path, mode !== "auto");
  const base = content === null ? {} : check(content, path ?? "");
  const merged = { ...base, ...check(overrides, "--override-generation-config") };
  const { eos_token_id: eos, max_new_tokens: maxTokens, ...rest } = merged;
  const names = ["temperature", "top_p", "top_k", "min_p", "repetition_penalty"] as const;
  const sampling: Record<string, number> = {};
  for (const name of names) {
    const value = rest[name];
    if (typeof value === "number") sampling[name] = value;
  }
  if (typeof maxTokens === "number") sampling.max_tokens = maxTokens;
  const eosTokenIds = eos === null || eos === undefined ? [] : [eos].flat();
  return { sampling, eosTokenIds, source: content === null ? null : path };
}

function fileOf(mode: string, modelPath: string): string | null {
  if (mode === "vllm") return null;
  const folder = mode === "auto" ? modelPath : resolveFolder("generation config", mode);
  return join(folder, "generation_config.json");
}

function readJson(path: string, isRequired: boolean): unknown {
  let text: string;
  try {
    text = readFileSync(path, "utf8");
  } catch (cause) {
    if (!isRequired && (cause as NodeJS.ErrnoException).code === "ENOENT") return null;
    throw new UcmError("UCM_ERR_MODEL_CONFIG", `${path} cannot be read.`, { cause });
  }
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new UcmError("UCM_ERR_MODEL_CONFIG", `${path} is not valid JSON.`, { cause });
  }
}

function check(content: unknown, source: string): z.output<typeof samplingDefaults> {
  const parsed = samplingDefaults.safeParse(content);
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0];
  throw new UcmError(
    "UCM_ERR_MODEL_CONFIG",
    `${source}: ${issue?.path.join(".") || "content"}: ${issue?.message}.`,
  );
}
