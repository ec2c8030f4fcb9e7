import { statSync } from "node:fs";
import { fetchSnapshot, readHubOptions } from "../hub/index.js";
import type { Flags } from "./flags/index.js";
import { createProgressBar } from "./load-progress.js";

const MIB = 2 ** 20;

/** Where the model's files are on this machine, and what it is called. */
export interface LocatedModel {
  model: string;
  tokenizer: string | null;
  servedModelName: readonly string[] | null;
  /** As the user named it. */
  modelName: string;
}

/**
 * Finds the folders of model and tokenizer; names of the hub (`Org/Name`) are downloaded into its cache.
 * Requests then may use the name, not the folder in the cache.
 */
export async function locateModel(
  flags: Flags,
  model: string,
  signal: AbortSignal,
): Promise<LocatedModel> {
  const ignored = (flags.ignorePatterns ?? []).map(patternToRegExp);
  const download = (name: string, revision: string | null, wants: (path: string) => boolean) => {
    const isWanted = (path: string) =>
      wants(path) && !ignored.some((pattern) => pattern.test(path));
    return downloadByName(flags, name, revision ?? "main", isWanted, signal);
  };
  const wantsWeights = flags.loadFormat !== "dummy";
  const { tokenizer } = flags;
  return {
    model: isHubName(model)
      ? await download(model, flags.revision, (path) => isModelFile(path, wantsWeights))
      : model,
    tokenizer:
      tokenizer !== null && isHubName(tokenizer)
        ? await download(tokenizer, flags.tokenizerRevision, (path) => isModelFile(path, false))
        : tokenizer,
    servedModelName: flags.servedModelName ?? [model],
    modelName: model,
  };
}

/** `Org/Name`, unless something of that name is here. */
export function isHubName(given: string): boolean {
  if (!/^[\w-][\w.-]*\/[\w-][\w.-]*$/.test(given)) return false;
  return statSync(given, { throwIfNoEntry: false }) === undefined;
}

/** What the engine reads: configuration, tokenizer, chat templates and safetensors. */
export function isModelFile(path: string, wantsWeights: boolean): boolean {
  if (path.endsWith(".safetensors")) return wantsWeights && !path.startsWith("consolidated");
  return /\.(json|jinja|txt|model)$/.test(path);
}

/** A pattern of file names as Python's fnmatch reads it: * is any text, ? any character. */
export function patternToRegExp(pattern: string): RegExp {
  const literal = pattern.replace(/[.+^${}()|[\]\\]/g, "\\$&");
  const source = literal.replace(/\*+/g, ".*").replaceAll("?", ".");
  return new RegExp(`^${source}$`, "s");
}

async function downloadByName(
  flags: Flags,
  name: string,
  revision: string,
  wants: (path: string) => boolean,
  signal: AbortSignal,
): Promise<string> {
  const given = { token: flags.hfToken, downloadDir: flags.downloadDir };
  const bar = createProgressBar(flags.useTqdmOnLoad);
  try {
    return await fetchSnapshot({
      name,
      revision,
      wants,
      options: readHubOptions(given, process.env),
      signal,
      onProgress: ({ path, doneBytes, totalBytes }) =>
        bar.update(Math.round(doneBytes / MIB), Math.round(totalBytes / MIB), `${path} (MiB)`),
    });
  } finally {
    bar.stop();
  }
}
