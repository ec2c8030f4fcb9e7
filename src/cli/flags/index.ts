import { acceptedFlags } from "./accepted.js";
import { acceptedServerFlags } from "./accepted-server.js";
import {
  benchLatencyFlags,
  benchServeFlags,
  benchServeIdleFlags,
  benchThroughputFlags,
} from "./bench.js";
import { benchAttentionFlags, benchStoreFlags } from "./bench-native.js";
import { chatFlags, completeFlags } from "./client.js";
import { engineFlags } from "./engine.js";
import { frontendFlags } from "./frontend.js";
import { modelFlags } from "./model.js";
import { refusedFlags } from "./refused.js";
import { offlineFlags, samplingFlags } from "./sampling.js";
import {
  type CommandName,
  type EngineCommandName,
  engineCommands,
  type FlagTable,
  type ValuesOf,
} from "./spec.js";
import { configFlags, runBatchFlags, runBatchIdleFlags } from "./tools.js";

export * from "./commands.js";
export * from "./spec.js";
export { samplingFlags };

const implementedFlags = {
  ...modelFlags,
  ...engineFlags,
  ...frontendFlags,
  ...offlineFlags,
  ...samplingFlags,
} as const;

/** The one table: every flag of the commands that load a model. */
export const flagTable: FlagTable = {
  ...acceptedFlags,
  ...acceptedServerFlags,
  ...refusedFlags,
  ...implementedFlags,
};

/** Further flags of single commands. */
const ownFlags = {
  chat: chatFlags,
  complete: completeFlags,
  "bench serve": { ...benchServeIdleFlags, ...benchServeFlags },
  "bench latency": benchLatencyFlags,
  "bench throughput": benchThroughputFlags,
  "bench attention": benchAttentionFlags,
  "bench store": benchStoreFlags,
  "run-batch": { ...runBatchIdleFlags, ...runBatchFlags },
  config: configFlags,
} as const satisfies Partial<Record<CommandName, FlagTable>>;

/** Commands that share {@link flagTable}, and whose rows of it they take. */
const sharedRows: Partial<Record<CommandName, EngineCommandName>> = {
  ...Object.fromEntries(engineCommands.map((command) => [command, command])),
  "run-batch": "serve",
  config: "serve",
};

type OwnFlags<C extends CommandName> = C extends keyof typeof ownFlags
  ? ValuesOf<(typeof ownFlags)[C]>
  : unknown;

/** Parsed flags that commands share; those of other commands hold their defaults. */
export type Flags = ValuesOf<typeof implementedFlags>;

/** Parsed flags of one command. */
export type FlagsOf<C extends CommandName> = OwnFlags<C> &
  (C extends EngineCommandName | "run-batch" | "config" ? Flags : unknown);

/** The rows that a command alone takes. */
export function ownFlagsOf(command: CommandName): FlagTable {
  return command in ownFlags ? ownFlags[command as keyof typeof ownFlags] : {};
}

/** True for commands that read the engine's flags, and so configuration files. */
export function readsConfigFiles(command: CommandName): boolean {
  return sharedRows[command] !== undefined;
}

/** The rows that a command takes. */
export function flagsFor(command: CommandName): FlagTable {
  const shared = sharedRows[command];
  const rows = Object.entries(flagTable).filter(
    ([, spec]) => shared !== undefined && spec.commands.includes(shared),
  );
  return { ...Object.fromEntries(rows), ...ownFlagsOf(command) };
}

/** Every key that a configuration file may have: it serves all commands that load a model. */
export const configFileTable: FlagTable = Object.assign(
  {},
  ...engineCommands.map(ownFlagsOf),
  flagTable,
);
