import { type Stats, statSync } from "node:fs";
import { resolve } from "node:path";
import { UcmError } from "../errors/index.js";

/**
 * The absolute path of a folder that a flag names. UCM_ERR_MODEL_NOT_FOUND when there is none.
 */
export function resolveFolder(
  what: "model" | "tokenizer" | "generation config",
  given: string,
): string {
  const path = resolve(given);
  const stats = inspect(what, path);
  if (stats?.isDirectory()) return path;
  if (stats !== undefined) {
    throw notFound(`The ${what} ${given} is a file; give the folder that holds it.`);
  }
  throw notFound(
    `There is no ${what} folder ${path}. Give the folder of a Hugging Face checkpoint${what === "generation config" ? "" : ", or a name on the hub like Org/Name"}.`,
  );
}

function inspect(what: string, path: string): Stats | undefined {
  try {
    return statSync(path, { throwIfNoEntry: false });
  } catch (error) {
    throw notFound(`The ${what} folder ${path} cannot be read: ${(error as Error).message}.`);
  }
}

function notFound(message: string): UcmError {
  return new UcmError("UCM_ERR_MODEL_NOT_FOUND", message, { param: "model" });
}
