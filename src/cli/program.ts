import { Command, CommanderError } from "commander";
import { nearestName } from "../config/nearest-name.js";
import { toUcmError, UcmError } from "../errors/index.js";
import { isDebugEnabled } from "../log/index.js";
import { readCommandLine } from "./command-flags.js";
import { renderHelp, renderRootHelp } from "./command-help.js";
import {
  type CommandInfo,
  type CommandName,
  cacheSummary,
  commandInfos,
  usageLine,
} from "./flags/index.js";
import type { Invocation } from "./invocation.js";
import { readVersion } from "./package-files.js";

type Runner<C extends CommandName> = (invocation: Invocation<C>) => Promise<number>;

/**
 * Each command's work, which runs to the end and returns the exit code; throws UcmError. Loaded when it is
 * asked for: what one command needs is half a second that the others do not have to wait.
 */
const runners: { [C in CommandName]: () => Promise<Runner<C>> } = {
  serve: async () => (await import("./serve.js")).runServe,
  offline: async () => (await import("./offline.js")).runOffline,
  chat: async () => (await import("./client/chat.js")).runChat,
  complete: async () => (await import("./client/complete.js")).runComplete,
  "bench serve": async () => (await import("./bench/serve.js")).runBenchServe,
  "bench latency": async () => (await import("./bench/latency.js")).runBenchLatency,
  "bench throughput": async () => (await import("./bench/throughput.js")).runBenchThroughput,
  "bench attention": async () => (await import("./bench/attention.js")).runBenchAttention,
  "bench store": async () => (await import("./bench/store.js")).runBenchStore,
  "run-batch": async () => (await import("./batch/run-batch.js")).runBatch,
  config: async () => (await import("./config.js")).runConfig,
  "collect-env": async () => (await import("./collect-env.js")).runCollectEnv,
};

/** First words after `ucm`. */
const rootNames = [
  ...new Set(Object.keys(commandInfos).map((name) => name.split(" ")[0]!)),
  "cache",
];

const rootUsage = `usage: ucm [-h] [-v] {${rootNames.join(",")}} ...`;

/** The command line program. Returns the exit code; prints its own errors, never throws. */
export async function main(argv: readonly string[]): Promise<number> {
  let exitCode = 0;
  // Output that cannot be written, to a reader that has left or a full disk, ends no server.
  for (const stream of [process.stdout, process.stderr]) stream.on("error", () => {});
  const program = new Command("ucm")
    .version(readVersion(), "-v, --version", "print the version")
    .helpCommand(false)
    .enablePositionalOptions()
    .exitOverride()
    .configureOutput({ writeErr: () => {} })
    .configureHelp({
      formatHelp: ({ commands }) =>
        renderRootHelp(commands.map((one) => ({ name: one.name(), summary: one.summary() }))),
    });
  const addCommand = (
    name: string,
    summary: string,
    usage: string,
    run: (args: string[]) => Promise<number>,
  ) =>
    program
      .command(name)
      .summary(summary)
      .argument("[arguments...]")
      .usage(usage)
      .helpOption(false)
      .allowUnknownOption()
      .passThroughOptions()
      .action(async (args: string[]) => {
        exitCode = await run(args);
      });
  // The flags of a command are read by the flag table, which follows vLLM's parser.
  for (const name of rootNames) {
    const info = commandInfos[name as CommandName] as CommandInfo | undefined;
    if (info !== undefined) {
      addCommand(name, info.summary, "[model] [options]", (args) =>
        runCommand(name as CommandName, args),
      );
    } else if (membersOf(name).length > 0) {
      const summary = `Measure a server or the engine: ${membersOf(name).join(", ")}.`;
      addCommand(name, summary, "<command> [options]", (args) => runMember(name, args));
    }
  }
  addCommand("cache", cacheSummary, "[folder...] [options]", async (args) =>
    (await import("./cache/command.js")).runCache(args),
  );
  if (argv.length === 0) {
    program.outputHelp();
    return 0;
  }
  try {
    await program.parseAsync([...argv], { from: "user" });
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error;
    return error.exitCode === 0 ? 0 : reportRootError(argv, error);
  }
  return exitCode;
}

/** Second words of the commands that start with `group`. */
function membersOf(group: string): string[] {
  const names = Object.keys(commandInfos).map((name) => name.split(" "));
  return names.flatMap(([first, second]) => (first === group && second ? [second] : []));
}

/** Runs a command of two words; without a second word, or with --help, lists the choices. */
async function runMember(group: string, [member, ...argv]: string[]): Promise<number> {
  const members = membersOf(group);
  if (member !== undefined && members.includes(member)) {
    return runCommand(`${group} ${member}` as CommandName, argv);
  }
  const usage = `usage: ucm ${group} [-h] {${members.join(",")}} ...`;
  if (member === "-h" || member === "--help") {
    const rows = members.map(
      (name) => `  ${name.padEnd(24)}${commandInfos[`${group} ${name}` as CommandName].summary}`,
    );
    process.stdout.write(`${usage}\n\n${rows.join("\n")}\n`);
    return 0;
  }
  const choices = members.map((name) => `'${name}'`).join(", ");
  const message =
    member === undefined
      ? `the following arguments are required: ${group}_type`
      : `argument ${group}_type: invalid choice: '${member}' (choose from ${choices})`;
  process.stderr.write(`${usage}\nucm ${group}: error: ${message}\n`);
  return new UcmError("UCM_ERR_USAGE", message).exitCode;
}

async function runCommand<C extends CommandName>(
  command: C,
  argv: readonly string[],
): Promise<number> {
  try {
    const line = await readCommandLine(command, argv, { env: process.env, cwd: process.cwd() });
    if (line.kind === "help") {
      process.stdout.write(`${renderHelp(command, line.topic)}\n`);
      return 0;
    }
    const run: Runner<C> = await runners[command]();
    return await run(line);
  } catch (error) {
    return reportError(command, error);
  }
}

/** Prints one clear message on stderr and gives the exit code of the error's kind. */
function reportError(command: CommandName, thrown: unknown): number {
  const error = toUcmError(thrown);
  const isBug = error.code === "UCM_ERR_INTERNAL";
  const usage = error.code === "UCM_ERR_USAGE" ? `${usageLine(command)}\n` : "";
  const kind = isBug ? "internal error" : "error";
  process.stderr.write(`${usage}ucm ${command}: ${kind}: ${error.message}\n`);
  const { cause } = error;
  if (isDebugEnabled()) {
    const stack = cause instanceof Error ? cause.stack : error.stack;
    process.stderr.write(`${stack}\n`);
  } else if (isBug) {
    process.stderr.write("Set UCM_LOGGING_LEVEL=DEBUG to see where it happened.\n");
  }
  return error.exitCode;
}

/** argparse's words for what commander found wrong before any command ran. */
function reportRootError(argv: readonly string[], error: CommanderError): number {
  const names = rootNames.map((name) => `'${name}'`);
  const given = argv.find((word) => !word.startsWith("-"));
  const near = given === undefined ? null : nearestName(given, rootNames);
  const hint = near === null ? "" : `\nDid you mean ${near}?`;
  const message =
    error.code === "commander.unknownCommand"
      ? `argument subparser: invalid choice: '${given}' (choose from ${names.join(", ")})${hint}`
      : `unrecognized arguments: ${argv.join(" ")}`;
  process.stderr.write(`${rootUsage}\nucm: error: ${message}\n`);
  return new UcmError("UCM_ERR_USAGE", message).exitCode;
}
