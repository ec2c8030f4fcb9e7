import { UcmError } from "../../errors/index.js";
import { readCommandLine } from "../command-flags.js";

/** Where to look for the folders when none is given. */
export interface FolderSources {
  kvTransferConfig: string | undefined;
  config: string | undefined;
}

/**
 * The backend folders that a command is about: those given (each may be several with `:` between
 * them), else those of the KV transfer configuration that `ucm serve` would start with here.
 */
export async function resolveFolders(
  given: readonly string[],
  { kvTransferConfig, config }: FolderSources,
  context: { env: NodeJS.ProcessEnv; cwd: string },
): Promise<string[]> {
  const folders = given.flatMap((folder) => folder.split(":")).filter((folder) => folder !== "");
  if (folders.length > 0) return [...new Set(folders)];
  const line = await readCommandLine(
    "serve",
    [
      ...(kvTransferConfig === undefined ? [] : [`--kv-transfer-config=${kvTransferConfig}`]),
      ...(config === undefined ? [] : [`--config=${config}`]),
    ],
    context,
  );
  const transfer = line.kind === "run" ? line.flags.kvTransferConfig : null;
  // Only here, as loading it takes longer than all else that a command does on a folder.
  const { backendFolders } = await import("../../config/index.js");
  const configured = transfer === null ? [] : backendFolders(transfer);
  if (configured.length > 0) return configured;
  throw new UcmError(
    "UCM_ERR_USAGE",
    transfer === null
      ? "no folder: give one or several, or --kv-transfer-config or --config as for `ucm serve`."
      : "the store of --kv-transfer-config keeps no files: its blocks are gone with its server.",
  );
}
