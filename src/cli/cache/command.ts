import { Command, CommanderError, InvalidArgumentError } from "commander";
import { runCacheTool } from "../../cache-tool/index.js";
import { toUcmError, UcmError } from "../../errors/index.js";
import { isDebugEnabled } from "../../log/index.js";
import { cacheSummary } from "../flags/commands.js";
import { resolveFolders } from "./folders.js";
import { type Ask, type Operation, type Options, operations } from "./operations.js";
import { showToolProgress } from "./progress.js";

const DEFAULT_TIMEOUT_S = 30;

const usage = `usage: ucm cache {${Object.keys(operations).join(",")}} [folder ...] [options]`;

/** `ucm cache …`. Returns the exit code; prints its own errors. */
export async function runCache(argv: readonly string[]): Promise<number> {
  let exitCode = 0;
  const program = new Command("ucm cache")
    .description(cacheSummary)
    .helpCommand(false)
    .exitOverride()
    .configureOutput({ writeErr: () => {} });
  for (const [name, operation] of Object.entries(operations)) {
    const command = program
      .command(name)
      .summary(operation.summary)
      .description(operation.summary)
      .argument(
        "[folder...]",
        "Folders as in storage_backends, each also several with ':' between them. Default: those of the KV transfer configuration.",
      )
      .option("--json", "Print JSON; errors too.")
      .option("--timeout <seconds>", "Silence after which a file system counts as hung.", seconds)
      .option("--kv-transfer-config <json>", "Take the folders from it, as `ucm serve` does.")
      .option("--config <file>", "Take it from this YAML file.");
    operation.addOptions(command);
    command.action(async (folders: string[], options: Options) => {
      exitCode = await runOperation(operation, folders, options);
    });
  }
  if (argv.length === 0) {
    program.outputHelp();
    return 0;
  }
  try {
    await program.parseAsync([...argv], { from: "user" });
    return exitCode;
  } catch (error) {
    if (error instanceof CommanderError && error.exitCode === 0) return 0;
    return reportError(asUsageError(error), argv.includes("--json"));
  }
}

async function runOperation(
  operation: Operation,
  given: readonly string[],
  options: Options,
): Promise<number> {
  const sources = {
    kvTransferConfig: options.kvTransferConfig as string | undefined,
    config: options.config as string | undefined,
  };
  const context = { env: process.env, cwd: process.cwd() };
  const folders = await resolveFolders(given, sources, context);
  const progress = showToolProgress(options.json !== true);
  const timeoutMs = 1000 * ((options.timeout as number | undefined) ?? DEFAULT_TIMEOUT_S);
  const ask: Ask = async (question) => {
    try {
      const request = { ...question, folders } as never;
      return await runCacheTool(request, { timeoutMs, onProgress: progress.update });
    } finally {
      progress.stop();
    }
  };
  const { text, json, exitCode = 0 } = await operation.run(ask, options);
  process.stdout.write(`${options.json === true ? JSON.stringify(json) : text}\n`);
  return exitCode;
}

function asUsageError(error: unknown): unknown {
  if (!(error instanceof CommanderError)) return error;
  return new UcmError("UCM_ERR_USAGE", error.message.replace(/^error: /, ""));
}

function reportError(thrown: unknown, asJson: boolean): number {
  const error = toUcmError(thrown);
  const { code, message } = error;
  if (asJson) process.stdout.write(`${JSON.stringify({ error: { code, message } })}\n`);
  if (code === "UCM_ERR_USAGE") process.stderr.write(`${usage}\n`);
  const suffix = code === "UCM_ERR_USAGE" ? "" : ` (${code})`;
  process.stderr.write(`ucm cache: error: ${message}${suffix}\n`);
  if (isDebugEnabled()) process.stderr.write(`${error.stack}\n`);
  return error.exitCode;
}

function seconds(text: string): number {
  const value = Number(text);
  if (value > 0 && Number.isFinite(value)) return value;
  throw new InvalidArgumentError("Expected a number of seconds above 0.");
}
