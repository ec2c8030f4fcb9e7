import type { CommandName, FlagsOf, FlagValue } from "./flags/index.js";

/** What a command gets to work with. */
export interface Invocation<C extends CommandName = "serve"> {
  flags: FlagsOf<C>;
  /** Flags set to other than their defaults, under vLLM's names. */
  nonDefault: Record<string, FlagValue>;
  /** Where the value of every flag came from: "command line", a variable, a file, "default". */
  sources: ReadonlyMap<string, string>;
  /** To print once the log is set up. */
  warnings: string[];
}
