import type { Invocation } from "../invocation.js";
import { connect, runRepl } from "./repl.js";

interface Message {
  role: "system" | "user" | "assistant";
  content: string;
}

/** `ucm chat`: a conversation with a running server. Exit code 130 when a quick answer is interrupted. */
export async function runChat({ flags }: Invocation<"chat">): Promise<number> {
  const { client, model } = await connect(flags);
  const { systemPrompt } = flags;
  const conversation: Message[] =
    systemPrompt === null ? [] : [{ role: "system", content: systemPrompt }];
  return runRepl(
    "Please enter a message for the chat model:",
    flags,
    (input, signal) => {
      const messages = [...conversation, { role: "user", content: input }];
      return client.stream("/chat/completions", { model, messages }, signal);
    },
    // An interrupted answer is part of the conversation as far as it was seen.
    (input, { text }) =>
      conversation.push({ role: "user", content: input }, { role: "assistant", content: text }),
  );
}
