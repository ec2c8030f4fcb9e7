import { createInterface } from "node:readline/promises";
import { type Command, InvalidArgumentError, Option } from "commander";
import {
  type CacheRequest,
  type CacheResults,
  folderStat,
  type RemoveTarget,
} from "../../cache-tool/index.js";
import { UcmError } from "../../errors/index.js";
import { listJson, statJson } from "./json.js";
import * as render from "./render.js";
import { parseDuration, parseSize } from "./units.js";

/** Options of one operation as commander gives them. */
export type Options = Record<string, unknown>;

/** What is to be printed, and the exit code; 0 when it is left out. */
export interface Outcome {
  text: string;
  json: object;
  exitCode?: number;
}

/** A request, but for the folders, which the command line names. */
export type Question = CacheRequest extends infer Request
  ? Request extends CacheRequest
    ? Omit<Request, "folders">
    : never
  : never;

/** Puts a question to the tool. */
export type Ask = <Q extends Question>(question: Q) => Promise<CacheResults[Q["kind"]]>;

export interface Operation {
  summary: string;
  addOptions(command: Command): void;
  run(ask: Ask, options: Options): Promise<Outcome>;
}

const dryRun = ["--dry-run", "Say what would be done, and do nothing."] as const;

/** The operations of `ucm cache`, in the order of its help. */
export const operations: Readonly<Record<string, Operation>> = {
  ls: {
    summary: "List what is cached: models, blocks, sizes, ages.",
    addOptions: (command) => void command.option("--blocks", "List every block."),
    async run(ask, { blocks }) {
      const folders = await ask({ kind: "scan" });
      const now = Date.now();
      const list = render.renderList(folders, now);
      return {
        text: blocks ? `${list}\n\n${render.renderBlocks(folders, now)}` : list,
        json: listJson(folders, blocks === true),
      };
    },
  },
  stat: {
    summary: "Show sizes, servers, quota claims, pins, quarantine and hit counts.",
    addOptions: () => {},
    async run(ask) {
      const folders = await ask({ kind: "scan" });
      return {
        text: render.renderStats(folders.map(folderStat), Date.now()),
        json: statJson(folders),
      };
    },
  },
  verify: {
    summary: "Read every byte, compare it with its checksum, quarantine what is damaged.",
    addOptions: (command) =>
      void command.option("--dry-run", "Leave damaged files where they are."),
    async run(ask, options) {
      const result = await ask({ kind: "verify", dryRun: options.dryRun === true });
      const isSound = result.corrupt.length === 0 && result.unreadable.length === 0;
      return { text: render.renderVerify(result), json: result, exitCode: isSound ? 0 : 1 };
    },
  },
  gc: {
    summary: "Remove blocks over a limit, least recently used first, and what dead servers left.",
    addOptions(command) {
      command
        .option(
          "--max-bytes <size>",
          "Keep at most so much in blocks per folder: 10G, 500MiB.",
          size,
        )
        .option(
          "--max-age <duration>",
          "Keep blocks that were used since: 12h, 7d, 1d12h.",
          duration,
        )
        .option(...dryRun);
    },
    async run(ask, options) {
      const isDryRun = options.dryRun === true;
      const limits = {
        maxBytes: (options.maxBytes as number | undefined) ?? null,
        maxAgeMs: (options.maxAge as number | undefined) ?? null,
      };
      const result = await ask({ kind: "gc", limits, dryRun: isDryRun });
      return {
        text: render.renderCollect(result, isDryRun),
        json: result,
        exitCode: result.failed.length === 0 ? 0 : 1,
      };
    },
  },
  rm: {
    summary: "Remove a namespace, a model, one block or everything.",
    addOptions(command) {
      const others = (own: string) =>
        ["namespace", "model", "block", "all"].filter((name) => name !== own);
      const target = (flags: string, help: string, own: string) =>
        command.addOption(new Option(flags, help).conflicts(others(own)));
      target("--namespace <name>", "A namespace as ls shows it, or its first digits.", "namespace");
      target("--model <name>", "All namespaces of a model.", "model");
      target("--block <key>", "One block, or the first digits of its key.", "block");
      target("--all", "Everything.", "all");
      command
        .option("--force", "Even if running servers use it.")
        .option("-y, --yes", "Do not ask.")
        .option(...dryRun);
    },
    run: remove,
  },
};

async function remove(ask: Ask, options: Options): Promise<Outcome> {
  const target = targetOf(options);
  const force = options.force === true;
  const plan = await ask({ kind: "rm", target, force, dryRun: true });
  if (options.dryRun) return { text: render.renderRemove(plan, true), json: plan };
  // Without force, it is refused here when servers use it, before anyone is asked.
  const isRefused = plan.users.length > 0 && !force;
  if (!options.yes && !isRefused && !(await confirm(render.renderRemove(plan, true)))) {
    return { text: "Nothing was removed.", json: { isRefused: true }, exitCode: 1 };
  }
  const result = await ask({ kind: "rm", target, force, dryRun: false });
  return {
    text: render.renderRemove(result, false),
    json: result,
    exitCode: result.failed.length === 0 ? 0 : 1,
  };
}

function targetOf({ namespace, model, block, all }: Options): RemoveTarget {
  if (typeof namespace === "string") return { kind: "namespace", name: namespace.toLowerCase() };
  if (typeof model === "string") return { kind: "model", name: model };
  if (typeof block === "string") return { kind: "block", key: block.toLowerCase() };
  if (all === true) return { kind: "all" };
  throw new UcmError(
    "UCM_ERR_USAGE",
    "what is to be removed? Give --namespace, --model, --block or --all.",
  );
}

async function confirm(plan: string): Promise<boolean> {
  if (!process.stdin.isTTY) {
    throw new UcmError(
      "UCM_ERR_USAGE",
      `${plan} Nobody is here to ask: give --yes to do it, or --dry-run.`,
    );
  }
  const terminal = createInterface({ input: process.stdin, output: process.stderr });
  try {
    return /^y(es)?$/i.test((await terminal.question(`${plan} Go on? [y/N] `)).trim());
  } finally {
    terminal.close();
  }
}

function size(text: string): number {
  const bytes = parseSize(text);
  if (bytes !== null) return bytes;
  throw new InvalidArgumentError(
    "Expected bytes, or a number with a unit: 10G or 10GiB (2^30), 500m or 500MB (10^6).",
  );
}

function duration(text: string): number {
  const ms = parseDuration(text);
  if (ms !== null) return ms;
  throw new InvalidArgumentError("Expected a number with a unit: 90s, 30m, 12h, 7d, 2w or 1d12h.");
}
