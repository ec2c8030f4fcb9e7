import { readFileSync } from "node:fs";
import { UcmError } from "../../errors/index.js";
import type { Tokenizer } from "../../tokenizer/index.js";
import type { FlagsOf } from "../flags/index.js";
import type { RandomSource } from "./random-source.js";

/** One request of a workload. */
export interface SampleRequest {
  prompt: string;
  /** Tokens of the prompt, without special ones. */
  promptLen: number;
  outputLen: number;
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

/** Token ids that stand for text of their own. */
function ordinaryTokens(tokenizer: Tokenizer): number[] {
  const ids = Array.from({ length: tokenizer.vocabSize }, (_, id) => id);
  return ids.filter((id) => !tokenizer.isSpecial(id));
}

function drawTokens(count: number, allowed: readonly number[], random: RandomSource): number[] {
  return Array.from({ length: count }, () => allowed[random.integer(0, allowed.length - 1)]!);
}

const MAX_TRIES = 10;

/**
 * Text that encodes to as many tokens as given: what the tokens decode to may encode to fewer or more,
 * so it is cut or filled up and tried again, as vLLM does.
 */
function textOfLength(
  tokenIds: readonly number[],
  tokenizer: Tokenizer,
  allowed: readonly number[],
  random: RandomSource,
): { prompt: string; promptLen: number } {
  const wanted = tokenIds.length;
  let current = [...tokenIds];
  for (let tries = 0; ; tries++) {
    const prompt = tokenizer.decode(current);
    const encoded = tokenizer.encode(prompt, { addSpecialTokens: false });
    if (encoded.length === wanted || tries === MAX_TRIES) {
      return { prompt, promptLen: encoded.length };
    }
    current =
      encoded.length > wanted
        ? encoded.slice(0, wanted)
        : [...encoded, ...drawTokens(wanted - encoded.length, allowed, random)];
  }
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
  const lines = parseFile(flags, (text) =>
    text
      .split("\n")
      .filter((line) => line.trim() !== "")
      .map((line) => JSON.parse(line) as { prompt?: unknown; output_tokens?: unknown }),
  );
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

function parseFile<T extends unknown[]>(flags: Flags, parse: (text: string) => T): T {
  if (flags.datasetPath === null) {
    throw new UcmError(
      "UCM_ERR_USAGE",
      `--dataset-name ${flags.datasetName} needs the file: --dataset-path FILE`,
    );
  }
  try {
    const entries = parse(readFileSync(flags.datasetPath, "utf8"));
    if (Array.isArray(entries)) return entries;
  } catch (cause) {
    throw fileError(flags, (cause as Error).message);
  }
  throw fileError(flags, "a JSON list is expected");
}

function fileError(flags: Flags, reason: string): UcmError {
  return new UcmError(
    "UCM_ERR_PROMPT_FILE",
    `The dataset ${flags.datasetPath} cannot be used: ${reason}.`,
  );
}
