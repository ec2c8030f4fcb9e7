import { type FlagTable, flagsOf } from "./spec.js";

const chat = flagsOf("options", { commands: ["chat"] });
const complete = flagsOf("options", { commands: ["complete"] });

/** Where the server is; for both clients. */
function serverFlags(flags: typeof chat) {
  return {
    url: flags.string("http://localhost:8000/v1", "URL of the running OpenAI-compatible server."),
    "model-name": flags.string(null, "Model to ask for. Default: the first that the server lists."),
    "api-key": flags.string(null, "API key. Default: OPENAI_API_KEY, else EMPTY.", {
      envTwins: { OPENAI_API_KEY: (text) => (text === "" ? null : text) },
    }),
    timing: flags.bool(
      null,
      "Print tokens, time to first token and rate after each answer. Default: on a terminal.",
    ),
  } as const;
}

/** Flags of `ucm chat`. */
export const chatFlags = {
  ...serverFlags(chat),
  "system-prompt": chat.string(null, "System prompt of the conversation."),
  quick: chat.string(null, "Send one message, print the answer and exit.", { short: ["-q"] }),
} as const satisfies FlagTable;

/** Flags of `ucm complete`. */
export const completeFlags = {
  ...serverFlags(complete),
  "max-tokens": complete.int(null, "Tokens to generate at most. Default: the server's.", {
    min: 1,
  }),
  quick: complete.string(null, "Send one prompt, print its completion and exit.", {
    short: ["-q"],
  }),
} as const satisfies FlagTable;
