import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { UcmError } from "../../errors/index.js";
import type { Invocation } from "../invocation.js";
import { percentOf, reportNativeBench } from "./native-bench.js";
import { centre, row } from "./serve-report.js";

type StoreLine =
  | {
      kind: "machine";
      blocks: number;
      blockBytes: number;
      layers: number;
      ioThreads: number;
      crc32c: string;
    }
  | {
      kind: "rate";
      /** memory, or files with (`cached`) or without (`direct`) the page cache. */
      part: string;
      what: string;
      bytesPerS: number;
      /** Null for a roof itself. */
      ofRoof: number | null;
    }
  | { kind: "verification"; part: string; ofLoad: number };

/**
 * `ucm bench store`: dumps and verified loads of the memory and file stores, in turns with plain copies,
 * writes and reads of the same bytes. Works in a new folder under `--path`, which it removes.
 */
export async function runBenchStore(invocation: Invocation<"bench store">): Promise<number> {
  const { flags } = invocation;
  const folder = makeFolder(flags.path ?? tmpdir());
  const args = [folder, String(flags.numBlocks), String(flags.numIters), "json"];
  try {
    return await reportNativeBench<StoreLine>("store_bench", args, flags, {
      figures: (lines) => ({ figures: lines }),
      render: renderParts,
    });
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** UCM_ERR_USAGE when no folder can be made there. */
function makeFolder(parent: string): string {
  try {
    return mkdtempSync(join(parent, "ucm-bench-"));
  } catch (cause) {
    const reason = (cause as Error).message;
    throw new UcmError(
      "UCM_ERR_USAGE",
      `argument --path: cannot work in ${parent}: ${reason}; name a folder that can be written to`,
      { cause },
    );
  }
}

const headings: Record<string, string> = {
  memory: "Memory",
  cached: "Files, Page Cache",
  direct: "Files, Direct",
};

function renderParts(lines: readonly StoreLine[]): string[] {
  return Object.entries(headings).flatMap(([part, heading]) => {
    const own = lines.filter((line) => line.kind !== "machine" && line.part === part);
    return [centre(heading, "-"), ...own.map(renderLine)];
  });
}

function renderLine(line: StoreLine): string {
  if (line.kind === "verification") {
    return row("Verification, of the load's time:", percentOf(line.ofLoad));
  }
  if (line.kind === "machine") return row("Blocks:", line.blocks);
  const share = line.ofRoof === null ? "" : `, ${percentOf(line.ofRoof)} of the roof`;
  const name = `${line.what[0]!.toUpperCase()}${line.what.slice(1)}`;
  return row(`${name}:`, `${(line.bytesPerS / 1e9).toFixed(2)} GB/s${share}`);
}
