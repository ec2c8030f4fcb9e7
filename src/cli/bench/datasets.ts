import type { Tokenizer } from "../../tokenizer/index.js";
import type { FlagsOf } from "../flags/index.js";
import { fileError, jsonLines, parseFile } from "./dataset-file.js";
import { traceRequests } from "./mooncake.js";
import { drawTokens, ordinaryTokens, textOfLength } from "./prompt-text.js";
import type { RandomSource } from "./random-source.js";

/** One request of a workload. */
export interface SampleRequest {
  prompt: string;
  /** Tokens of the prompt, without special ones. */
  promptLen: number;
  outputLen: number;
  /** Seconds from the start at which a trace has it; absent where the flags set the pace. */
  arrivalS?: number;
}

type Flags = FlagsOf<"bench serve">;

/** The requests that the flags describe. UCM_ERR_PROMPT_FILE for a file that cannot be used. */
export function makeRequests(
  flags: Flags,
  tokenizer: Tokenizer,
  random: RandomSource,
): SampleRequest[] {
  const makers: Record<Flags["datasetName"], () => SampleRequest[]> = {
    random: () => randomRequests(flags, tokenizer, random),
    prefix_repetition: () => repeatedPrefixes(flags, tokenizer, random),
    sharegpt: () => shareGpt(flags, tokenizer, random),
    custom: () => custom(flags, tokenizer, random),
    mooncake: () => traceRequests(flags, tokenizer, random),
  };
  return makers[flags.datasetName]();
}

/** Lengths within the range ratio; each prompt counts upwards from a token of its own. */
function randomRequests(flags: Flags, tokenizer: Tokenizer, random: RandomSource): SampleRequest[] {
  const inputLen = flags.inputLen ?? flags.randomInputLen;
  const outputLen = flags.outputLen ?? flags.randomOutputLen;
  const ratio = flags.randomRangeRatio;
  const allowed = ordinaryTokens(tokenizer);
  const prefix = drawTokens(flags.randomPrefixLen, allowed, random);
  const vary = (length: number) =>
    random.integer(Math.max(1, Math.floor(length * (1 - ratio))), Math.ceil(length * (1 + ratio)));
  return Array.from({ length: flags.numPrompts }, (_, index) => {
    const length = vary(inputLen);
    const offset = random.integer(0, allowed.length - 1);
    const own = Array.from(
      { length },
      (_, position) => allowed[(offset + index + position) % allowed.length]!,
    );
    const prompt = textOfLength([...prefix, ...own], tokenizer, allowed, random);
    return { ...prompt, outputLen: vary(outputLen) };
  });
}

function repeatedPrefixes(
  flags: Flags,
  tokenizer: Tokenizer,
  random: RandomSource,
): SampleRequest[] {
  const allowed = ordinaryTokens(tokenizer);
  const outputLen = flags.outputLen ?? flags.prefixRepetitionOutputLen;
  const prefixes = Array.from({ length: flags.prefixRepetitionNumPrefixes }, () =>
    drawTokens(flags.prefixRepetitionPrefixLen, allowed, random),
  );
  const requests = Array.from({ length: flags.numPrompts }, (_, index) => {
    const prefix = prefixes[index % prefixes.length]!;
    const suffix = drawTokens(flags.prefixRepetitionSuffixLen, allowed, random);
    return { ...textOfLength([...prefix, ...suffix], tokenizer, allowed, random), outputLen };
  });
  return flags.disableShuffle ? requests : random.shuffle(requests);
}

const sharegptLimits = { minLen: 4, maxPromptLen: 1024, maxTotalLen: 2048 };

/** First question and answer of each conversation; too short and too long ones are left out. */
function shareGpt(flags: Flags, tokenizer: Tokenizer, random: RandomSource): SampleRequest[] {
  const entries = parseFile(flags, (text) => JSON.parse(text) as unknown[]);
  const turnsOf = (entry: unknown) =>
    (entry as { conversations?: { value: string }[] }).conversations ?? [];
  const talks = entries.map(turnsOf).filter((turns) => turns.length >= 2);
  const count = (text: string) => tokenizer.encode(text, { addSpecialTokens: false }).length;
  const fixed = flags.sharegptOutputLen ?? flags.outputLen;
  const requests: SampleRequest[] = [];
  for (const [question, answer] of flags.disableShuffle ? talks : random.shuffle(talks)) {
    if (requests.length === flags.numPrompts) break;
    const prompt = question!.value;
    const promptLen = count(prompt);
    const outputLen = fixed ?? count(answer!.value);
    const { minLen, maxPromptLen, maxTotalLen } = sharegptLimits;
    if (promptLen < minLen || (fixed === null && outputLen < minLen)) continue;
    if (promptLen > maxPromptLen || promptLen + outputLen > maxTotalLen) continue;
    requests.push({ prompt, promptLen, outputLen });
  }
  return repeatTo(flags.numPrompts, requests, flags);
}

/** Lines with `prompt` and, if --custom-output-len is -1, `output_tokens`. */
function custom(flags: Flags, tokenizer: Tokenizer, random: RandomSource): SampleRequest[] {
  const lines = parseFile(flags, jsonLines) as { prompt?: unknown; output_tokens?: unknown }[];
  const fixed = flags.outputLen ?? flags.customOutputLen;
  const requests = lines.map(({ prompt, output_tokens: own }) => {
    if (typeof prompt !== "string") throw fileError(flags, "every line needs a prompt");
    const outputLen = fixed === -1 ? own : fixed;
    if (typeof outputLen !== "number") {
      throw fileError(flags, "with --custom-output-len -1, every line needs output_tokens");
    }
    const promptLen = tokenizer.encode(prompt, { addSpecialTokens: false }).length;
    return { prompt, promptLen, outputLen };
  });
  const ordered = flags.disableShuffle ? requests : random.shuffle(requests);
  return repeatTo(flags.numPrompts, ordered, flags);
}

/** The first `count`, from the start again when there are fewer. */
function repeatTo(count: number, requests: SampleRequest[], flags: Flags): SampleRequest[] {
  if (requests.length === 0) throw fileError(flags, "it has no request that can be sent");
  return Array.from({ length: count }, (_, index) => requests[index % requests.length]!);
}
