import type { SparseBudget, SparseConfig } from "../messages/index.js";

/** What a configuration has to go with. */
export interface SparseFacts {
  blockSize: number;
  numLayers: number;
}

/** A key of a method's object in ucm_sparse_config. */
export interface SparseKey<Value> {
  /** Legal values in words, to follow "must be". */
  readonly range: string;
  readonly default: Value;
  /** Undefined when the value given is not legal. */
  read(given: unknown): Value | undefined;
}

/** Keys by their names, as the user writes them. */
export type SparseKeys<Settings> = { readonly [Name in keyof Settings]: SparseKey<Settings[Name]> };

/**
 * A sparse attention method: how it is configured and what it keeps of a prompt. How workers choose
 * blocks is the native part's, by the configuration. Another method (GSA, KVStar) is another file and
 * an entry in the table of index.ts.
 */
export interface SparseMethod<Settings extends object = Record<string, unknown>> {
  readonly keys: SparseKeys<Settings>;
  /** The configuration for these settings, or what is wrong with them together, as a sentence. */
  configure(settings: Settings, facts: SparseFacts): SparseConfig | string;
  /** What is kept of a prompt of so many tokens; null when all of it is, and attention is dense. */
  budget(config: SparseConfig, promptTokens: number, blockSize: number): SparseBudget | null;
}

/** A method as the table has it, where settings are whatever its own keys have read. */
export function defineMethod<Settings extends object>(
  method: SparseMethod<Settings>,
): SparseMethod {
  return method as unknown as SparseMethod;
}

export function integerKey(fallback: number, least: number, most?: number): SparseKey<number> {
  const range =
    most === undefined ? `an integer of ${least} or more` : `an integer from ${least} to ${most}`;
  return {
    range,
    default: fallback,
    read(given) {
      const value = toNumber(given);
      const isLegal = Number.isSafeInteger(value) && value >= least && value <= (most ?? value);
      return isLegal ? value : undefined;
    },
  };
}

/** A share: `least` is the smallest legal one, or "above 0". */
export function shareKey(fallback: number, least: 0 | "above 0"): SparseKey<number> {
  return {
    range: least === 0 ? "a number from 0 to 1" : "a number above 0 and at most 1",
    default: fallback,
    read(given) {
      const value = toNumber(given);
      return (least === 0 ? value >= 0 : value > 0) && value <= 1 ? value : undefined;
    },
  };
}

export function choiceKey<Choice extends string | number>(
  fallback: NoInfer<Choice>,
  choices: readonly Choice[],
): SparseKey<Choice> {
  const words = choices.map((choice) => (typeof choice === "string" ? `'${choice}'` : `${choice}`));
  return {
    range: `${words.slice(0, -1).join(", ")} or ${words.at(-1)}`,
    default: fallback,
    read: (given) => choices.find((choice) => choice === given || String(choice) === given),
  };
}

/** Some JSON writers quote numbers. */
function toNumber(given: unknown): number {
  if (typeof given === "number") return given;
  const isNumeral = typeof given === "string" && given.trim() !== "";
  return isNumeral ? Number(given) : Number.NaN;
}
