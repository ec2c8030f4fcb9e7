import type { FromWorker } from "./worker-messages.js";

type Check = (value: unknown) => boolean;

const isNumber: Check = (value) => typeof value === "number";
const isObject: Check = (value) => typeof value === "object" && value !== null;
const isString: Check = (value) => typeof value === "string";

/** What each message of a worker must hold; what a step sampled is checked against the step later. */
const fieldsOf: Record<FromWorker["type"], Record<string, Check>> = {
  progress: { phase: isString, done: isNumber, total: isNumber },
  ready: { version: isNumber, weightBytes: isNumber, kvBytes: isNumber, loadMs: isNumber },
  failed: { error: isObject },
  storeReport: { report: isObject },
  stepResult: {
    stepId: isNumber,
    sampled: Array.isArray,
    failed: Array.isArray,
    promptLogprobs: Array.isArray,
    durationMs: isNumber,
  },
};

/** Whether something that a worker sent is one of its messages. */
export function isFromWorker(value: unknown): value is FromWorker {
  if (typeof value !== "object" || value === null) return false;
  const message = value as Record<string, unknown>;
  const fields = Object.hasOwn(fieldsOf, String(message.type))
    ? fieldsOf[message.type as FromWorker["type"]]
    : null;
  return fields !== null && Object.entries(fields).every(([name, check]) => check(message[name]));
}
