import type { Flags, FlagValue } from "./flags/index.js";

/** What a command gets to work with. */
export interface Invocation {
  flags: Flags;
  /** Flags set to other than their defaults, under vLLM's names. */
  nonDefault: Record<string, FlagValue>;
  /** To print once the log is set up. */
  warnings: string[];
}
