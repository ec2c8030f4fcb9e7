import { type FlagSpec, type FlagType, flagsFor } from "../../../src/cli/flags/index.js";

/** Words after a flag, and what they are read as. */
export interface GoodCase {
  words: string[];
  value: unknown;
}

/** Words after a flag, and argparse's refusal without the flag's name. */
export interface BadCase {
  words: string[];
  message: string;
}

export interface FlagCases {
  good: GoodCase[];
  bad: BadCase[];
}

const good = (value: unknown, ...words: string[]): GoodCase => ({ words, value });
const bad = (message: string, ...words: string[]): BadCase => ({ words, message });

const badInt = (word: string) => bad(`invalid int value: '${word}'`, word);
const badFloat = (word: string) => bad(`invalid float value: '${word}'`, word);
const oneMissing = bad("expected one argument");
const someMissing = bad("expected at least one argument");

/** Smallest and largest values of flags that have them; written down apart from the table. */
const ranges: Record<string, readonly [number | null, number | null]> = {
  "max-model-len": [-1, null],
  seed: [0, null],
  "max-logprobs": [-1, null],
  "gpu-memory-utilization": [0, 1],
  "kv-cache-memory-bytes": [1, null],
  "num-gpu-blocks-override": [1, 2_147_483_647],
  "max-num-seqs": [1, null],
  "max-num-batched-tokens": [1, null],
  "long-prefill-token-threshold": [0, null],
  "max-num-queued-reqs": [0, null],
  "tensor-parallel-size": [1, null],
  "cpu-cores-per-worker": [1, 1024],
  "worker-timeout": [0.1, 86_400],
  port: [0, 65_535],
  "ssl-cert-reqs": [0, 2],
  "h11-max-incomplete-event-size": [1024, null],
  "h11-max-header-count": [1, null],
  "max-log-len": [0, null],
  "shutdown-timeout": [0, null],
};

/** The only words that some flags take. */
const choices: Record<string, readonly string[]> = {
  dtype: ["auto", "half", "float16", "bfloat16", "float", "float32"],
  quantization: ["int8", "int4"],
  "load-format": ["auto", "hf", "safetensors", "dummy"],
  "block-size": ["8", "16", "32", "64", "128", "256"],
  "kv-cache-dtype": ["auto", "float32", "bfloat16", "float16"],
  "prefix-caching-hash-algo": [
    ...["sha256_cbor", "sha256", "sha256_cbor_64bit", "builtin", "xxhash", "xxhash_cbor"],
  ],
  "scheduling-policy": ["fcfs", "priority"],
  device: ["auto", "cpu", "cuda"],
  "uvicorn-log-level": ["critical", "error", "warning", "info", "debug", "trace"],
  "log-format": ["text", "json"],
};

const human: FlagCases = {
  good: [
    good(4096, "4K"),
    good(4000, "4k"),
    good(25_600, "25.6k"),
    good(2 * 2 ** 20, "2M"),
    good(3_000_000_000, "3g"),
  ],
  bad: [
    badInt("x"),
    badInt("1.5"),
    bad(
      "Decimals are not allowed with binary suffixes like K. Did you mean to use 1.5k instead?",
      "1.5K",
    ),
    oneMissing,
  ],
};

const text: FlagCases = {
  good: [good("word", "word"), good("two words", "two words")],
  bad: [oneMissing],
};

const byType: Record<FlagType, FlagCases> = {
  string: text,
  append: { good: [good(["word"], "word")], bad: [oneMissing] },
  stringList: { good: [good(["a"], "a"), good(["a", "b"], "a", "b")], bad: [someMissing] },
  intList: {
    good: [good([1], "1"), good([1, 2], "1", "2")],
    bad: [bad("invalid int value: 'b'", "1", "b"), someMissing],
  },
  bool: { good: [good(true)], bad: [] },
  switch: { good: [good(true)], bad: [] },
  int: { good: [good(7, "7")], bad: [badInt("x"), badInt("1.5"), badInt("1e3"), oneMissing] },
  float: { good: [good(0.5, "0.5"), good(1, "1")], bad: [badFloat("much"), oneMissing] },
  rate: {
    good: [good(0.5, "0.5"), good(Number.POSITIVE_INFINITY, "inf")],
    bad: [badFloat("0"), badFloat("x"), oneMissing],
  },
  humanInt: human,
  humanIntOrAuto: { good: [...human.good, good(-1, "auto")], bad: human.bad },
  json: {
    good: [good({ a: 1 }, '{"a": 1}'), good({}, "{}")],
    bad: [
      bad("Value [1] must be a JSON object", "[1]"),
      bad("Value {a} cannot be read as JSON: ", "{a}"),
      oneMissing,
    ],
  },
  jsonList: {
    good: [good(["a"], '["a"]')],
    bad: [bad("Value a cannot be read as JSON: ", "a"), oneMissing],
  },
};

/** Valid words, wrong types, and both sides of every bound of one flag of `ucm serve`. */
export function casesOf(name: string): FlagCases {
  const spec = flagsFor("serve")[name]!;
  const cases = name in choices ? choiceCases(name) : rangedCases(name, byType[spec.type]);
  if (!isNullable(spec)) return cases;
  const none = [good(null, "None"), good(null, "")];
  return { good: [...cases.good, ...none], bad: withBare(cases.bad, spec) };
}

const isNullable = (spec: FlagSpec) =>
  spec.optional && !["bool", "switch", "append", "stringList", "intList"].includes(spec.type);

/** A flag whose value may be left out does not miss it. */
function withBare(refused: BadCase[], spec: FlagSpec): BadCase[] {
  return spec.bare === null ? refused : refused.filter(({ words }) => words.length > 0);
}

function choiceCases(name: string): FlagCases {
  const words = choices[name]!;
  const isNumber = words.every((word) => /^\d+$/.test(word));
  const listed = words.map((word) => `'${word}'`).join(", ");
  const wrong = isNumber ? "7" : "no-such-choice";
  return {
    good: words.map((word) => good(isNumber ? Number(word) : word, word)),
    bad: [bad(`invalid choice: '${wrong}' (choose from ${listed})`, wrong), oneMissing],
  };
}

function rangedCases(name: string, cases: FlagCases): FlagCases {
  const [low, high] = ranges[name] ?? [null, null];
  const isInside = ({ value }: GoodCase) =>
    typeof value !== "number" ||
    (value >= (low ?? Number.NEGATIVE_INFINITY) && value <= (high ?? Number.POSITIVE_INFINITY));
  const step = /utilization|timeout/.test(name) ? 0.001 : 1;
  const ends = [low, high].filter((end) => end !== null);
  const refusals = [
    ...(low === null ? [] : [beyond("least", low, low - step)]),
    ...(high === null ? [] : [beyond("most", high, high + step)]),
  ];
  return {
    good: [...cases.good.filter(isInside), ...ends.map((end) => good(end, String(end)))],
    bad: [...cases.bad, ...refusals],
  };
}

function beyond(side: "least" | "most", end: number, given: number): BadCase {
  return bad(`invalid value: must be at ${side} ${end}, got ${given}`, String(given));
}
