import { acceptedFlags } from "./accepted.js";
import { acceptedServerFlags } from "./accepted-server.js";
import { engineFlags } from "./engine.js";
import { frontendFlags } from "./frontend.js";
import { modelFlags } from "./model.js";
import { refusedFlags } from "./refused.js";
import { offlineFlags, samplingFlags } from "./sampling.js";
import type { CommandName, FlagTable, ValuesOf } from "./spec.js";

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

/** The one table: every flag of every command. */
export const flagTable: FlagTable = {
  ...acceptedFlags,
  ...acceptedServerFlags,
  ...refusedFlags,
  ...implementedFlags,
};

/** Parsed flags of either command; those of the other command hold their defaults. */
export type Flags = ValuesOf<typeof implementedFlags>;

/** The rows that a command takes. */
export function flagsFor(command: CommandName): FlagTable {
  return Object.fromEntries(
    Object.entries(flagTable).filter(([, spec]) => spec.commands.includes(command)),
  );
}
