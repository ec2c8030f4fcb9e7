import { randomUUID } from "node:crypto";
import { z } from "zod";
import { UcmError } from "../../errors/index.js";

/** A line of an OpenAI batch file. */
export interface BatchRequest {
  customId: string;
  method: string;
  url: string;
  body: Record<string, unknown>;
}

/** A line of the answers, in vLLM's shape. */
export interface BatchRecord {
  id: string;
  custom_id: string;
  response: { status_code: number; request_id: string; body: unknown };
  /** The error body, or vLLM's words for what never became a request. */
  error: unknown;
}

const lineSchema = z.object({
  custom_id: z.string(),
  method: z.string().default("POST"),
  url: z.string(),
  body: z.record(z.string(), z.unknown()),
});

/**
 * All requests of a batch file's text; blank lines do not count. UCM_ERR_PROMPT_FILE names `path` and the
 * line.
 */
export function parseBatch(text: string, path: string): BatchRequest[] {
  const requests = text
    .split("\n")
    .map((line, index) => ({ line, origin: `${path} line ${index + 1}` }))
    .filter(({ line }) => line.trim() !== "")
    .map(({ line, origin }) => readLine(line, origin));
  if (requests.length === 0) throw fileError(`The input file ${path} has no request.`);
  return requests;
}

function readLine(line: string, origin: string): BatchRequest {
  let content: unknown;
  try {
    content = JSON.parse(line);
  } catch (cause) {
    throw fileError(`${origin}: not valid JSON: ${(cause as Error).message}.`);
  }
  const result = lineSchema.safeParse(content);
  if (result.success) {
    const { custom_id: customId, method, url, body } = result.data;
    return { customId, method, url, body };
  }
  const [issue] = result.error.issues;
  throw fileError(`${origin}: ${issue?.path.join(".") || "the line"}: ${issue?.message}.`);
}

function fileError(message: string): UcmError {
  return new UcmError("UCM_ERR_PROMPT_FILE", message);
}

/** The record of a request that was answered. */
export function answerRecord(request: BatchRequest, status: number, body: unknown): BatchRecord {
  const isError = status >= 400;
  return {
    id: `vllm-${hexId()}`,
    custom_id: request.customId,
    response: {
      status_code: status,
      request_id: `vllm-batch-${hexId()}`,
      body: isError ? null : body,
    },
    error: isError ? body : null,
  };
}

/** The record of a line that is no request that can be sent. */
export function refusalRecord(request: BatchRequest, message: string): BatchRecord {
  return { ...answerRecord(request, 400, null), error: message };
}

function hexId(): string {
  return randomUUID().replaceAll("-", "");
}
