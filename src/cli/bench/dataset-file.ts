import { readFileSync } from "node:fs";
import { UcmError } from "../../errors/index.js";

/** The flags that name a workload's file. */
interface DatasetFile {
  datasetName: string;
  datasetPath: string | null;
}

/** The entries of the file, as `parse` reads its text. UCM_ERR_USAGE without one, UCM_ERR_PROMPT_FILE. */
export function parseFile<T extends unknown[]>(flags: DatasetFile, parse: (text: string) => T): T {
  if (flags.datasetPath === null) {
    throw new UcmError(
      "UCM_ERR_USAGE",
      `--dataset-name ${flags.datasetName} needs the file: --dataset-path FILE`,
    );
  }
  try {
    const entries = parse(readFileSync(flags.datasetPath, "utf8"));
    if (Array.isArray(entries)) return entries;
  } catch (cause) {
    throw fileError(flags, (cause as Error).message);
  }
  throw fileError(flags, "a JSON list is expected");
}

export function fileError(flags: DatasetFile, reason: string): UcmError {
  return new UcmError(
    "UCM_ERR_PROMPT_FILE",
    `The dataset ${flags.datasetPath} cannot be used: ${reason}.`,
  );
}

/** JSON Lines; blank ones do not count. */
export function jsonLines(text: string): unknown[] {
  return text
    .split("\n")
    .filter((line) => line.trim() !== "")
    .map((line) => JSON.parse(line) as unknown);
}
