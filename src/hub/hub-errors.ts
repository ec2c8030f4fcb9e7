import { HubApiError } from "@huggingface/hub";
import { UcmError } from "../errors/index.js";

/** What was asked for, for messages. */
export interface HubSubject {
  name: string;
  revision: string;
  endpoint: string;
}

/** An answer of the hub that is no success, or no answer, as an error for people. */
export function hubError(subject: HubSubject, error: unknown): UcmError {
  if (error instanceof UcmError) return error;
  if (error instanceof HubApiError) return statusError(subject, error.statusCode);
  const cause = error instanceof Error && error.cause instanceof Error ? error.cause : error;
  const reason = cause instanceof Error ? cause.message || cause.name : String(cause);
  return new UcmError(
    "UCM_ERR_REMOTE",
    `Cannot reach the model hub at ${subject.endpoint} for ${subject.name}: ${reason}. There is no folder ${subject.name} here either: check the name, the network and HF_ENDPOINT.`,
    { cause: error, param: "model" },
  );
}

/** The error of an HTTP status of the hub. */
export function statusError({ name, revision, endpoint }: HubSubject, status: number): UcmError {
  const messages: Record<number, string> = {
    401: `The hub does not show ${name} to everyone (401): it is private or gated, or the name is wrong. Set HF_TOKEN, or give --hf-token, and check the name.`,
    403: `The hub refuses ${name} to this token (403): ask for access on the model's page, or use another token.`,
    404: `The hub at ${endpoint} has no model ${name} with revision ${revision}, and there is no such folder here.`,
  };
  const isUsers = status in messages;
  return new UcmError(
    isUsers ? "UCM_ERR_MODEL_NOT_FOUND" : "UCM_ERR_REMOTE",
    messages[status] ?? `The hub at ${endpoint} answered ${status} for ${name}. Try again later.`,
    { param: "model" },
  );
}
