import type { Invocation } from "../invocation.js";
import { connect, runRepl } from "./repl.js";

/** `ucm complete`: continues prompts on a running server. Exit codes as of `ucm chat`. */
export async function runComplete({ flags }: Invocation<"complete">): Promise<number> {
  const { client, model } = await connect(flags);
  const limit = flags.maxTokens === null ? {} : { max_tokens: flags.maxTokens };
  return runRepl(
    "Please enter prompt to complete:",
    flags,
    (prompt, signal) => client.stream("/completions", { model, prompt, ...limit }, signal),
    () => {},
  );
}
