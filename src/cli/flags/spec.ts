/** Commands that load a model: they share the engine's flags and configuration files. */
export const engineCommands = ["serve", "offline", "bench latency", "bench throughput"] as const;

export type EngineCommandName = (typeof engineCommands)[number];

/** The commands that take flags; two words are a command of a group. */
export type CommandName =
  | EngineCommandName
  | "config"
  | "collect-env"
  | "chat"
  | "complete"
  | "bench serve"
  | "bench attention"
  | "bench store"
  | "run-batch";

/** Help groups, in the order in which help lists them; vLLM's names plus our own two. */
export const flagGroups = {
  options: "Options of the command itself.",
  Frontend: "The OpenAI-compatible HTTP server.",
  SamplingParams: "How to decode; defaults for every prompt of the command.",
  ModelConfig: "The model, its tokenizer and its context length.",
  LoadConfig: "Reading the weights.",
  AttentionConfig: "Attention kernels.",
  StructuredOutputsConfig: "Constrained decoding and reasoning output.",
  ParallelConfig: "Workers and the cores they use.",
  CacheConfig: "The KV cache.",
  OffloadConfig: "Moving weights out of memory.",
  MultiModalConfig: "Images, audio and video.",
  LoRAConfig: "LoRA adapters.",
  MambaConfig: "State-space layers.",
  ObservabilityConfig: "Metrics and traces.",
  SchedulerConfig: "Batching and the waiting queue.",
  CompilationConfig: "Graph capture.",
  KernelConfig: "Kernel selection.",
  VllmConfig: "Settings that span the others.",
} as const;

export type FlagGroup = keyof typeof flagGroups;

/**
 * How the text of a value is read. `humanInt` takes 1k = 1000 and 1K = 1024, its `OrAuto` kind
 * also `auto` for -1; `rate` is a number above 0 or `inf`; `bool` is `--x` or
 * `--no-x`; `switch` is `--x` alone; `append` collects one value per occurrence, the lists take
 * all values that follow; `jsonList` is one JSON list of strings.
 */
export type FlagType =
  | "string"
  | "int"
  | "humanInt"
  | "humanIntOrAuto"
  | "float"
  | "rate"
  | "bool"
  | "switch"
  | "json"
  | "jsonList"
  | "stringList"
  | "intList"
  | "append";

/** What becomes of a flag: it works, it is taken with a warning, or it is refused. */
export type FlagStatus =
  | { kind: "implemented" }
  /** Harmless to ignore; `reason` completes "--x has no effect: …". */
  | { kind: "accepted"; reason: string }
  /** Ignoring it would change results; `reason` completes "--x is not supported: …". */
  | { kind: "refused"; reason: string };

export type FlagValue =
  | string
  | number
  | boolean
  | null
  | readonly string[]
  | readonly number[]
  | Record<string, unknown>;

/** One row of the flag table. `T` is the type of the value after parsing, its default included. */
export interface FlagSpec<T extends FlagValue = FlagValue> {
  readonly type: FlagType;
  readonly default: T;
  /** Takes `None` and the empty string for null. */
  readonly optional: boolean;
  readonly group: FlagGroup;
  readonly help: string;
  readonly status: FlagStatus;
  /** Single-dash forms such as -tp. */
  readonly short: readonly string[];
  readonly choices: readonly string[] | null;
  /** Inclusive bounds of numbers. */
  readonly min: number;
  readonly max: number;
  /** Values beside the default that change nothing, so that neither warning nor refusal is due. */
  readonly harmless: readonly FlagValue[];
  readonly commands: readonly CommandName[];
  /** What the flag alone stands for where its value may be left out; null: a value is needed. */
  readonly bare: string | null;
  /** Other variables beside UCM_<NAME>, and how their text becomes the flag's (null: not set). */
  readonly envTwins: Readonly<Record<string, (text: string) => string | null>>;
}

export type FlagTable = Readonly<Record<string, FlagSpec>>;

type Extras = Partial<
  Pick<
    FlagSpec,
    "short" | "choices" | "min" | "max" | "harmless" | "commands" | "bare" | "envTwins" | "status"
  >
>;

function makeFlag<T extends FlagValue>(
  type: FlagType,
  group: FlagGroup,
  defaultValue: T,
  help: string,
  extras: Extras,
): FlagSpec<T> {
  return {
    type,
    group,
    default: defaultValue,
    optional: defaultValue === null,
    help,
    status: { kind: "implemented" },
    short: [],
    choices: null,
    min: Number.NEGATIVE_INFINITY,
    max: Number.POSITIVE_INFINITY,
    harmless: [],
    commands: engineCommands,
    bare: null,
    envTwins: {},
    ...extras,
  };
}

/** Constructors of rows for one help group; `null` as default makes a flag optional. */
export function flagsOf(group: FlagGroup, groupExtras: Extras = {}) {
  const row =
    <Base extends FlagValue>(type: FlagType) =>
    <D extends Base | null>(defaultValue: D, help: string, extras: Extras = {}) =>
      makeFlag<Base | (null extends D ? null : never)>(type, group, defaultValue as never, help, {
        ...groupExtras,
        ...extras,
      });
  return {
    string: row<string>("string"),
    int: row<number>("int"),
    humanInt: row<number>("humanInt"),
    humanIntOrAuto: row<number>("humanIntOrAuto"),
    float: row<number>("float"),
    rate: row<number>("rate"),
    bool: row<boolean>("bool"),
    toggle: row<boolean>("switch"),
    json: row<Record<string, unknown>>("json"),
    jsonList: row<readonly string[]>("jsonList"),
    stringList: row<readonly string[]>("stringList"),
    intList: row<readonly number[]>("intList"),
    append: row<readonly string[]>("append"),
    /** A string out of `choices`, typed as their union. */
    choice<const C extends string, D extends C | null>(
      choices: readonly C[],
      defaultValue: D,
      help: string,
      extras: Extras = {},
    ) {
      return makeFlag<C | (null extends D ? null : never)>(
        "string",
        group,
        defaultValue as never,
        help,
        { choices, ...groupExtras, ...extras },
      );
    },
  };
}

type CamelCase<S extends string> = S extends `${infer Head}-${infer Tail}`
  ? `${Head}${Capitalize<CamelCase<Tail>>}`
  : S;

/** Parsed values of a table under camelCase names: `--max-model-len` is `maxModelLen`. */
export type ValuesOf<Table extends FlagTable> = {
  readonly [Name in keyof Table & string as CamelCase<Name>]: Table[Name] extends FlagSpec<infer T>
    ? T
    : never;
};

export function camelCase(name: string): string {
  return name.replace(/-([a-z0-9])/g, (_, letter: string) => letter.toUpperCase());
}

/** The option strings of a flag in the order argparse names them: `--x/--no-x`, `--y/-y`. */
export function optionStrings(name: string, spec: FlagSpec): string[] {
  return [`--${name}`, ...(spec.type === "bool" ? [`--no-${name}`] : []), ...spec.short];
}

/** A flag that has no effect: its type, vLLM's default, and further values that change nothing. */
export type IdleFlag = FlagType | readonly [FlagType, FlagValue, ...FlagValue[]];

/** Rows of flags that vLLM has and that are only recognised, with one reason for all of them. */
export function idleFlags(
  group: FlagGroup,
  kind: "accepted" | "refused",
  reason: string,
  flags: Readonly<Record<string, IdleFlag>>,
  extras: Readonly<Record<string, Extras>> = {},
): FlagTable {
  const rows = Object.entries(flags).map(([name, flag]) => {
    const [type, defaultValue, ...harmless] = typeof flag === "string" ? [flag, null] : flag;
    const help = kind === "accepted" ? `No effect: ${reason}` : `Not supported: ${reason}`;
    const spec = makeFlag<FlagValue>(type, group, defaultValue, `${help}.`, {
      status: { kind, reason },
      harmless,
      ...extras[name],
    });
    return [name, { ...spec, optional: true }] as const;
  });
  return Object.fromEntries(rows);
}
