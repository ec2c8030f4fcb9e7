import { z } from "zod";
import type { GrammarSpec } from "../messages/index.js";
import { bool, list, object, string } from "./fields.js";
import { invalidRequest } from "./request-rules.js";

/** Tools of one body at most. */
const MAX_TOOLS = 1024;

const tool = z.object({
  type: string(),
  function: z.object({
    name: string(),
    description: string().nullish(),
    parameters: object().nullish(),
    strict: bool().nullish(),
  }),
});

/** Fields of chat that offer tools to the model. */
export const toolFields = {
  tools: list(tool, MAX_TOOLS).nullish(),
  tool_choice: z.unknown().optional(),
  parallel_tool_calls: bool().nullish(),
};

export type Tool = z.output<typeof tool>;

/** What is to become of tools: named and required calls are bound by a grammar. */
export type ToolChoice = { kind: "none" | "auto" | "required" } | { kind: "named"; name: string };

interface ToolBody {
  tools?: Tool[] | null | undefined;
  tool_choice?: unknown;
}

/** Reads `tool_choice`: auto when there are tools and none is given. UCM_ERR_INVALID_REQUEST. */
export function readToolChoice({ tools, tool_choice: choice }: ToolBody): ToolChoice {
  const hasTools = (tools?.length ?? 0) > 0;
  if (choice === "none") return { kind: "none" };
  if (choice === undefined || choice === null) return { kind: hasTools ? "auto" : "none" };
  if (!hasTools) throw badChoice("When using `tool_choice`, `tools` must be set.");
  if (choice === "auto" || choice === "required") return { kind: choice };
  const named = Object(choice).function;
  if (typeof choice !== "object" || Object(choice).type !== "function") {
    throw badChoice(
      `Invalid value for \`tool_choice\`: ${JSON.stringify(choice)}! Only named tools, "none", "auto" or "required" are supported.`,
    );
  }
  const name = Object(named).name;
  if (typeof name !== "string") {
    throw badChoice(
      'Expected field `function` in `tool_choice`. Correct usage: `{"type": "function", "function": {"name": "my_function"}}`',
    );
  }
  if (!tools!.some((offered) => offered.function.name === name)) {
    throw badChoice(
      "The tool specified in `tool_choice` does not match any of the specified `tools`",
    );
  }
  return { kind: "named", name };
}

function badChoice(message: string) {
  return invalidRequest(message, "tool_choice");
}

/** What binds the output to the calls that were asked for; null for auto and none. */
export function toolGrammar(
  choice: ToolChoice,
  tools: readonly Tool[],
  allowParallel: boolean,
): GrammarSpec | null {
  if (choice.kind === "named") {
    const { parameters } = tools.find((offered) => offered.function.name === choice.name)!.function;
    return jsonGrammar(parameters ?? anyParameters);
  }
  if (choice.kind !== "required") return null;
  const definitions: Record<string, unknown> = {};
  const calls = tools.map(({ function: { name, parameters } }) => {
    const { $defs, ...own } = parameters ?? anyParameters;
    for (const [key, definition] of Object.entries(Object($defs))) {
      const known = definitions[key];
      if (known !== undefined && JSON.stringify(known) !== JSON.stringify(definition)) {
        throw invalidRequest(
          `Tool definition '${key}' has multiple schemas, which is not supported.`,
          "tools",
        );
      }
      definitions[key] = definition;
    }
    return {
      type: "object",
      properties: { name: { type: "string", enum: [name] }, parameters: own },
      required: ["name", "parameters"],
    };
  });
  return jsonGrammar({
    type: "array",
    minItems: 1,
    ...(allowParallel ? {} : { maxItems: 1 }),
    items: { anyOf: calls },
    ...(Object.keys(definitions).length === 0 ? {} : { $defs: definitions }),
  });
}

const anyParameters: Record<string, unknown> = { type: "object", additionalProperties: true };

function jsonGrammar(schema: object): GrammarSpec {
  return { kind: "json", schema: JSON.stringify(schema), anyWhitespace: true };
}
