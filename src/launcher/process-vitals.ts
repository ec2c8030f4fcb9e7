import { readFileSync } from "node:fs";

/** What the kernel knows of a process. */
export interface Vitals {
  /** One letter, as ps(1) shows it. */
  state: string;
  /** Changes while any of its threads computes or gets memory or pages of files. */
  effort: string;
}

/** States in which a process does nothing and cannot help it. */
const conditions: Readonly<Record<string, string>> = {
  T: "its process is suspended (SIGSTOP)",
  t: "a debugger holds its process",
  D: "it waits in the kernel for a disk or a network mount",
};

/** Places in /proc/PID/stat after the name: minor faults, major faults, user and system time. */
const effortFields = [7, 9, 11, 12];

/** Null for a process that is gone. */
export function readVitals(pid: number): Vitals | null {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "latin1");
    // The name is in brackets and may hold any character.
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    return { state: fields[0]!, effort: effortFields.map((i) => fields[i]).join(" ") };
  } catch {
    return null;
  }
}

/** Why a process stands still, in words; null when its state does not tell. */
export function describeStandstill(vitals: Vitals | null): string | null {
  return conditions[vitals?.state ?? ""] ?? null;
}
