import type { z } from "zod";
import { UcmError } from "../errors/index.js";

/** One entry of a FastAPI validation error. */
export interface ValidationProblem {
  type: string;
  /** Where in the request: "body", then keys and indices. */
  location: (string | number)[];
  message: string;
  input: unknown;
}

/**
 * A refused body in FastAPI's words, which clients of vLLM match on:
 * `1 validation error:\n  {'type': …, 'loc': ('body', 'n'), 'msg': …, 'input': …}`.
 */
export function validationError(problems: readonly ValidationProblem[]): UcmError {
  const count = problems.length;
  const lines = problems.slice(0, MAX_PROBLEMS_SHOWN).map(describeProblem);
  if (count > lines.length) lines.push(`  … and ${count - lines.length} more`);
  const head = `${count} validation error${count === 1 ? "" : "s"}:`;
  const field = problems[0]?.location[1];
  return new UcmError(
    "UCM_ERR_INVALID_BODY",
    [head, ...lines].join("\n"),
    typeof field === "string" ? { param: field } : {},
  );
}

/** The body as `schema` reads it; UCM_ERR_INVALID_BODY with every problem found. */
export function parseBody<T>(schema: z.ZodType<T, unknown>, body: unknown): T {
  const result = schema.safeParse(body);
  if (result.success) return result.data;
  throw validationError(result.error.issues.map((issue) => toProblem(issue, body)));
}

const MAX_PROBLEMS_SHOWN = 10;
const MAX_TEXT_SHOWN = 200;
const MAX_ITEMS_SHOWN = 10;
const MAX_DEPTH_SHOWN = 4;

function toProblem(issue: z.core.$ZodIssue, body: unknown): ValidationProblem {
  const path = issue.path.map((key) => (typeof key === "number" ? key : String(key)));
  let input = body;
  for (const key of path) {
    input = Object(input)[key];
  }
  const location = ["body", ...path];
  if (issue.code === "custom") {
    const type = String(issue.params?.type ?? "value_error");
    if (input === undefined) return missingField(location);
    return { type, location, message: issue.message, input };
  }
  if (input === undefined) return missingField(location);
  return {
    type: "model_attributes_type",
    location,
    message: "Input should be a valid dictionary or object to extract fields from",
    input,
  };
}

function missingField(location: (string | number)[]): ValidationProblem {
  return { type: "missing", location, message: "Field required", input: null };
}

function describeProblem({ type, location, message, input }: ValidationProblem): string {
  const loc = `(${location.map((part) => toPython(part)).join(", ")}${location.length === 1 ? "," : ""})`;
  return `  {'type': ${toPython(type)}, 'loc': ${loc}, 'msg': ${toPython(message)}, 'input': ${toPython(input)}}`;
}

/** A JSON value as Python's repr writes it, cut where a hostile body would make it long or deep. */
function toPython(value: unknown, depth = 0): string {
  if (value === null || value === undefined) return "None";
  if (typeof value === "boolean") return value ? "True" : "False";
  if (typeof value === "string") return quote(value);
  if (typeof value !== "object") return String(value);
  if (depth >= MAX_DEPTH_SHOWN) return Array.isArray(value) ? "[…]" : "{…}";
  if (Array.isArray(value)) {
    const items = value.slice(0, MAX_ITEMS_SHOWN).map((item) => toPython(item, depth + 1));
    return `[${withEllipsis(items, value.length)}]`;
  }
  const entries = Object.entries(value);
  const items = entries
    .slice(0, MAX_ITEMS_SHOWN)
    .map(([key, item]) => `${quote(key)}: ${toPython(item, depth + 1)}`);
  return `{${withEllipsis(items, entries.length)}}`;
}

function withEllipsis(items: string[], total: number): string {
  return (total > items.length ? [...items, "…"] : items).join(", ");
}

function quote(text: string): string {
  const shown = text.length > MAX_TEXT_SHOWN ? `${text.slice(0, MAX_TEXT_SHOWN)}…` : text;
  const mark = shown.includes("'") && !shown.includes('"') ? '"' : "'";
  const escaped = JSON.stringify(shown).slice(1, -1).replaceAll('\\"', '"');
  return mark + (mark === "'" ? escaped.replaceAll("'", "\\'") : escaped) + mark;
}
