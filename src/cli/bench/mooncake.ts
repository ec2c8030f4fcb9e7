import { z } from "zod";
import type { Tokenizer } from "../../tokenizer/index.js";
import type { FlagsOf } from "../flags/index.js";
import { fileError, jsonLines, parseFile } from "./dataset-file.js";
import type { SampleRequest } from "./datasets.js";
import { drawTokens, ordinaryTokens, textOfLength } from "./prompt-text.js";
import type { RandomSource } from "./random-source.js";

/** Tokens that one hash id of a Mooncake trace stands for. */
const TRACE_BLOCK_TOKENS = 512;

const entrySchema = z.object({
  /** Milliseconds from the start of the trace. */
  timestamp: z.number().min(0),
  input_length: z.int().min(1),
  output_length: z.int().min(1),
  /** Equal ids are equal blocks, after equal blocks. */
  hash_ids: z.array(z.int().min(0)),
});

type Entry = z.output<typeof entrySchema>;

/**
 * The first requests of a Mooncake trace (JSON Lines with timestamp, input_length, output_length and
 * hash_ids): each hash id is a text of its own, so prompts share what their ids share, and each request
 * comes when the trace has it. --mooncake-block-len makes prompts shorter in proportion,
 * --mooncake-time-scale the time between them.
 */
export function traceRequests(
  flags: FlagsOf<"bench serve">,
  tokenizer: Tokenizer,
  random: RandomSource,
): SampleRequest[] {
  const entries = parseFile(flags, jsonLines)
    .slice(0, flags.numPrompts)
    .map((line, index) => readEntry(line, index, flags));
  if (entries.length === 0) throw fileError(flags, "it has no request that can be sent");
  const blockLen = flags.mooncakeBlockLen;
  const allowed = ordinaryTokens(tokenizer);
  const blocks = new Map<number, number[]>();
  const blockOf = (id: number) => {
    const tokens = blocks.get(id) ?? drawTokens(blockLen, allowed, random);
    blocks.set(id, tokens);
    return tokens;
  };
  const startMs = entries[0]!.timestamp;
  return entries.map(({ timestamp, input_length, output_length, hash_ids }) => {
    const length = Math.max(1, Math.round((input_length * blockLen) / TRACE_BLOCK_TOKENS));
    const tokens = hash_ids.flatMap(blockOf).slice(0, length);
    const prompt = textOfLength(tokens, tokenizer, allowed, random);
    const arrivalS = ((timestamp - startMs) / 1000) * flags.mooncakeTimeScale;
    return { ...prompt, outputLen: flags.outputLen ?? output_length, arrivalS };
  });
}

function readEntry(line: unknown, index: number, flags: FlagsOf<"bench serve">): Entry {
  const { data, error } = entrySchema.safeParse(line);
  if (data === undefined) {
    const [issue] = error.issues;
    throw fileError(flags, `request ${index + 1}: ${issue?.path.join(".")}: ${issue?.message}`);
  }
  const needed = Math.ceil(data.input_length / TRACE_BLOCK_TOKENS);
  if (data.hash_ids.length >= needed) return data;
  throw fileError(
    flags,
    `request ${index + 1}: ${data.input_length} input tokens are ${needed} hash_ids, not ${data.hash_ids.length}`,
  );
}
