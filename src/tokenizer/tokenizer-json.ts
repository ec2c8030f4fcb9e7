import { z } from "zod";

const addedTokenSchema = z.looseObject({
  id: z.int().min(0),
  content: z.string().min(1),
  special: z.boolean().default(false),
});

export type AddedToken = z.infer<typeof addedTokenSchema>;

/** A special token of tokenizer_config.json: its text, or an object around it. */
const specialTokenSchema = z
  .union([z.string(), z.looseObject({ content: z.string() })])
  .transform((token) => (typeof token === "string" ? token : token.content))
  .nullish()
  .transform((text) => text ?? null);

/** The named special tokens, in transformers' order. */
const specialTokenNames = [
  "bos_token",
  "eos_token",
  "unk_token",
  "sep_token",
  "pad_token",
  "cls_token",
  "mask_token",
] as const;

/** The part of tokenizer_config.json that changes token ids, text or chat templates. */
export const tokenizerConfigSchema = z.looseObject({
  bos_token: specialTokenSchema,
  eos_token: specialTokenSchema,
  unk_token: specialTokenSchema,
  sep_token: specialTokenSchema,
  pad_token: specialTokenSchema,
  cls_token: specialTokenSchema,
  mask_token: specialTokenSchema,
  additional_special_tokens: z.array(specialTokenSchema).nullish(),
  added_tokens_decoder: z.record(z.string(), z.looseObject({ content: z.string() })).nullish(),
  add_bos_token: z.boolean().nullish(),
  add_eos_token: z.boolean().nullish(),
  chat_template: z
    .union([z.string(), z.array(z.object({ name: z.string(), template: z.string() }))])
    .nullish(),
});

export type TokenizerConfig = z.infer<typeof tokenizerConfigSchema>;

const modelSchema = z.looseObject({
  type: z.string().nullish(),
  vocab: z.custom<Record<string, number>>(isObject, "must map tokens to ids"),
  // Each of some 150 000 merges is checked where it is split.
  merges: z.array(z.unknown()),
  continuing_subword_prefix: z.string().nullish(),
  end_of_word_suffix: z.string().nullish(),
});

const tokenizerJsonSchema = z.looseObject({
  model: z.unknown().optional(),
  added_tokens: z.array(addedTokenSchema).nullish(),
  normalizer: z.unknown().optional(),
  pre_tokenizer: z.unknown().optional(),
  post_processor: z.unknown().optional(),
  decoder: z.unknown().optional(),
});

/** tokenizer.json, checked, with what the tokenizer library lacks rewritten in terms it has. */
export interface TokenizerJson {
  /** Ids of the model's tokens and of added ones. */
  vocab: Map<string, number>;
  merges: [string, string][];
  addedTokens: AddedToken[];
  decoder: unknown;
  /** For the library's constructor; without merges. */
  library: Record<string, unknown>;
}

/** Texts of the special tokens that are set, by name. */
export function specialTokenTexts(config: TokenizerConfig): Record<string, string> {
  const texts: Record<string, string> = {};
  for (const name of specialTokenNames) {
    const text = config[name];
    if (text !== null) texts[name] = text;
  }
  return texts;
}

/** Checks a parsed tokenizer.json. Throws an Error in words about what is wrong with it. */
export function readTokenizerJson(value: unknown, config: TokenizerConfig): TokenizerJson {
  const json = tokenizerJsonSchema.parse(value);
  const model = readBpeModel(json.model);
  const vocab = new Map(Object.entries(model.vocab));
  for (const [token, id] of vocab) {
    if (!Number.isInteger(id) || id < 0) throw new Error(`token "${token}" has the id ${id}`);
  }
  const addedTokens = collectAddedTokens(json.added_tokens ?? [], vocab, config);
  for (const { content, id } of addedTokens) vocab.set(content, id);
  return {
    vocab,
    merges: model.merges.map(splitMerge),
    addedTokens,
    decoder: json.decoder,
    library: {
      ...json,
      model: { ...model, type: "BPE", merges: [] },
      added_tokens: addedTokens,
      normalizer: json.normalizer ?? null,
      pre_tokenizer: rewritePreTokenizer(json.pre_tokenizer ?? null),
      post_processor: json.post_processor ?? null,
      decoder: null,
    },
  };
}

function readBpeModel(value: unknown): z.infer<typeof modelSchema> {
  const type = isObject(value)
    ? (value.type ?? ("merges" in value ? "BPE" : undefined))
    : undefined;
  if (type !== "BPE") {
    throw new Error(`its model type is ${type ?? "missing"}; only BPE is supported`);
  }
  const model = modelSchema.parse(value);
  if (model.continuing_subword_prefix || model.end_of_word_suffix) {
    throw new Error("continuing_subword_prefix and end_of_word_suffix are not supported");
  }
  return model;
}

/** A merge is a pair of tokens: "a b" in older files, ["a", "b"] in newer ones. */
function splitMerge(merge: unknown, rank: number): [string, string] {
  const [left, right, ...rest]: unknown[] = Array.isArray(merge) ? merge : `${merge}`.split(" ");
  if (typeof left !== "string" || typeof right !== "string" || rest.length > 0) {
    throw new Error(`merge ${rank} (${JSON.stringify(merge)}) is not a pair of tokens`);
  }
  return [left, right];
}

/**
 * Added tokens of both files, as transformers merges them: tokenizer.json's, then those that only
 * tokenizer_config.json lists, then named special tokens that are plain vocabulary entries.
 */
function collectAddedTokens(
  listed: readonly AddedToken[],
  vocab: ReadonlyMap<string, number>,
  config: TokenizerConfig,
): AddedToken[] {
  const byContent = new Map(listed.map((token) => [token.content, token]));
  for (const [id, token] of Object.entries(config.added_tokens_decoder ?? {})) {
    if (byContent.has(token.content)) continue;
    byContent.set(token.content, addedTokenSchema.parse({ ...token, id: Number(id) }));
  }
  const named = [
    ...Object.values(specialTokenTexts(config)),
    ...(config.additional_special_tokens ?? []),
  ];
  for (const content of named) {
    if (content === null) continue;
    const known = byContent.get(content);
    const id = known?.id ?? vocab.get(content);
    if (id === undefined) continue;
    byContent.set(content, { normalized: false, ...known, content, id, special: true });
  }
  return [...byContent.values()];
}

/** The word pattern of GPT-2, which ByteLevel applies when `use_regex` is on. */
const GPT2_PATTERN =
  "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

/**
 * The library ignores Metaspace's `split`, reads `\s` of ByteLevel's own pattern as JavaScript does
 * (U+FEFF is a space, U+0085 is not), and knows only two behaviours of Split. The first two are
 * rewritten as a Split that it gets right; other behaviours are refused.
 */
function rewritePreTokenizer(value: unknown): unknown {
  if (!isObject(value)) return null;
  const step: Record<string, unknown> = value;
  if (step.type === "Sequence" && Array.isArray(step.pretokenizers)) {
    return { ...step, pretokenizers: step.pretokenizers.map(rewritePreTokenizer) };
  }
  if (step.type === "Metaspace" && step.split !== false) {
    const mark = String(step.replacement ?? "\u2581").replace(/[\\\]^-]/g, "\\$&");
    return sequence({ ...step, split: false }, isolate(`[${mark}][^${mark}]*`));
  }
  if (step.type === "ByteLevel" && step.use_regex !== false && step.add_prefix_space !== true) {
    return sequence(isolate(GPT2_PATTERN), { ...step, use_regex: false });
  }
  if (step.type === "Split" && !["Isolated", "Removed"].includes(String(step.behavior))) {
    throw new Error(`its Split pre-tokenizer has the behavior ${step.behavior}, not supported`);
  }
  return step;
}

function sequence(...pretokenizers: unknown[]): unknown {
  return { type: "Sequence", pretokenizers };
}

function isolate(pattern: string): unknown {
  return { type: "Split", pattern: { Regex: pattern }, behavior: "Isolated", invert: false };
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
