import { type Stats, statSync } from "node:fs";
import { resolve } from "node:path";
import { UcmError } from "../errors/index.js";

/**
 * The absolute path of a folder that a flag names. UCM_ERR_MODEL_NOT_FOUND when there is none, with
 * a word on hub names, which are not downloaded.
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
  const isHubName = /^[\w.-]+\/[\w.-]+$/.test(given) && !given.startsWith(".");
  throw notFound(
    isHubName
      ? `There is no ${what} folder ${path}. ${given} looks like a name on the Hugging Face hub: nothing is downloaded from there, so download it first and give its folder.`
      : `There is no ${what} folder ${path}. Give the folder of a Hugging Face checkpoint.`,
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
