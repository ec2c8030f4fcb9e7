import { z } from "zod";
import type { GrammarSpec } from "../messages/index.js";
import { bool, lax, list, Mismatch, object, string } from "./fields.js";
import { invalidRequest } from "./request-rules.js";

/** Bounds on one grammar, so that hostile sizes are refused before any work. */
const grammarLimits = {
  /** Characters of a schema, regular expression or grammar. */
  text: 256 * 1024,
  choices: 4096,
} as const;

/** JSON as text or as it is; read as text. */
const jsonText = lax((value): string | Mismatch => {
  if (typeof value === "string") return value;
  if (typeof value === "object" && value !== null) return JSON.stringify(value);
  return typeof value === "boolean"
    ? String(value)
    : new Mismatch("json_schema", "Input should be a JSON schema, as an object or as its text");
});

const choices = list(string(), grammarLimits.choices);

const responseFormat = z.object({
  type: string(),
  json_schema: z
    .object({ name: string().nullish(), schema: jsonText.nullish(), strict: bool().nullish() })
    .nullish(),
});

const structuredOutputs = z.object({
  json: jsonText.nullish(),
  regex: string().nullish(),
  choice: choices.nullish(),
  grammar: string().nullish(),
  json_object: bool().nullish(),
  structural_tag: jsonText.nullish(),
  disable_any_whitespace: bool().nullish(),
  disable_additional_properties: bool().nullish(),
  whitespace_pattern: string().nullish(),
  disable_fallback: bool().nullish(),
  _backend: string().nullish(),
});

/** Fields of both generation routes that bind the output to a grammar. */
export const grammarFields = {
  response_format: responseFormat.nullish(),
  structured_outputs: structuredOutputs.nullish(),
  /** The names of these before vLLM 0.11.1. */
  guided_json: jsonText.nullish(),
  guided_regex: string().nullish(),
  guided_choice: choices.nullish(),
  guided_grammar: string().nullish(),
  guided_whitespace_pattern: string().nullish(),
  guided_decoding_backend: string().nullish(),
};

const grammarSchema = z.object(grammarFields);
type GrammarBody = z.output<typeof grammarSchema>;

/**
 * The grammar that a body asks for, null for none.
 * @throws UcmError UCM_ERR_INVALID_REQUEST, in vLLM's words, for several or an incomplete one.
 */
export function readGrammar(body: GrammarBody): GrammarSpec | null {
  const { structured_outputs: structured } = body;
  const whitespace = structured?.whitespace_pattern ?? body.guided_whitespace_pattern;
  if (whitespace) {
    throw invalidRequest(
      "whitespace_pattern is not supported: use disable_any_whitespace.",
      "structured_outputs",
    );
  }
  const anyWhitespace = !structured?.disable_any_whitespace;
  const specs = [
    readResponseFormat(body.response_format),
    ...readKinds({ ...structured, json_object: structured?.json_object || null }, anyWhitespace),
    ...readKinds(
      {
        json: body.guided_json,
        regex: body.guided_regex,
        choice: body.guided_choice,
        grammar: body.guided_grammar,
      },
      true,
    ),
  ].filter((spec) => spec !== null);
  if (specs.length > 1) {
    throw invalidRequest(
      "You can only use one kind of constraints for structured outputs ('json', 'regex' or 'choice').",
      "structured_outputs",
    );
  }
  const [spec = null] = specs;
  if (spec === null && structured) {
    throw invalidRequest(
      "You must use one kind of structured outputs constraint but none are specified.",
      "structured_outputs",
    );
  }
  if (spec !== null) checkSpec(spec);
  return spec;
}

function readResponseFormat(format: GrammarBody["response_format"]): GrammarSpec | null {
  if (!format || format.type === "text") return null;
  if (format.type === "json_object") return { kind: "json_object" };
  if (format.type === "structural_tag") {
    return { kind: "structural_tag", tag: JSON.stringify(format) };
  }
  if (format.type !== "json_schema") {
    throw invalidRequest(
      `response_format.type must be one of text, json_object, json_schema and structural_tag, got ${format.type}.`,
      "response_format",
    );
  }
  const schema = format.json_schema?.schema;
  if (schema == null) {
    throw invalidRequest(
      "When response_format type is 'json_schema', the 'json_schema' field must be provided.",
      "response_format",
    );
  }
  return { kind: "json", schema, anyWhitespace: true };
}

type Kinds = Pick<
  NonNullable<GrammarBody["structured_outputs"]>,
  "json" | "regex" | "choice" | "grammar"
> & { json_object?: boolean | null; structural_tag?: string | null | undefined };

function readKinds(kinds: Kinds, anyWhitespace: boolean): (GrammarSpec | null)[] {
  const { json, regex, choice, grammar, json_object, structural_tag } = kinds;
  return [
    json == null ? null : { kind: "json", schema: json, anyWhitespace },
    regex == null ? null : { kind: "regex", pattern: regex },
    choice == null ? null : { kind: "choice", choices: choice },
    grammar == null ? null : { kind: "grammar", ebnf: grammar },
    json_object ? { kind: "json_object" } : null,
    structural_tag == null ? null : { kind: "structural_tag", tag: structural_tag },
  ];
}

function checkSpec(spec: GrammarSpec): void {
  const size = JSON.stringify(spec).length;
  if (size > grammarLimits.text) {
    throw invalidRequest(
      `The grammar of the output has ${size} characters, more than the ${grammarLimits.text} that are taken.`,
      "structured_outputs",
    );
  }
  if (spec.kind === "choice" && (spec.choices.length === 0 || spec.choices.includes(""))) {
    throw invalidRequest(
      "choice must be a list of at least one string, none of them empty.",
      "structured_outputs",
    );
  }
  if (spec.kind === "regex" && spec.pattern === "") {
    throw invalidRequest("regex must not be empty.", "structured_outputs");
  }
  if (spec.kind === "json") checkJson(spec.schema);
}

function checkJson(text: string): void {
  let schema: unknown;
  try {
    schema = JSON.parse(text);
  } catch {
    throw invalidRequest("Invalid JSON grammar specification.", "structured_outputs");
  }
  if (object().safeParse(schema).success || schema === true) return;
  throw invalidRequest(
    "Invalid JSON grammar specification: a schema is a JSON object.",
    "structured_outputs",
  );
}
