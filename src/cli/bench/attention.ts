import { inspectMachine } from "../../config/machine.js";
import { UcmError } from "../../errors/index.js";
import type { Invocation } from "../invocation.js";
import { percentOf, reportNativeBench } from "./native-bench.js";
import { type Roofs, renderRoofs } from "./roofs.js";
import { centre, row } from "./serve-report.js";

interface MachineLine extends Roofs {
  kind: "machine";
  kvCacheDtype: string;
}

/** One case: the rate is in operations per second for prefill, in KV bytes for decode. */
interface CaseLine {
  kind: "prefill" | "decode";
  length: number;
  batch: number;
  /** Of a sequence's blocks in the arena. */
  order: "sequence" | "random";
  secondsPerLayer: number;
  rate: number;
  roof: number;
}

type Flags = Invocation<"bench attention">["flags"];

/**
 * `ucm bench attention`: the kernels alone on one layer's shape, each case beside the roof that bounds
 * it, measured in the same run: multiply-adds for prefill, reads of memory for decode.
 */
export async function runBenchAttention(
  invocation: Invocation<"bench attention">,
): Promise<number> {
  const { flags } = invocation;
  checkShape(flags);
  return reportNativeBench<MachineLine | CaseLine>("attention_bench", argumentsOf(flags), flags, {
    figures: (lines) => ({ roofs: roofsOf(lines), cases: casesOf(lines).map(withShare) }),
    render: (lines) => [renderRoofs(roofsOf(lines)), renderCases(casesOf(lines))],
  });
}

const roofsOf = (lines: readonly (MachineLine | CaseLine)[]) =>
  lines.find((line) => line.kind === "machine")!;
const casesOf = (lines: readonly (MachineLine | CaseLine)[]) =>
  lines.filter((line) => line.kind !== "machine");

function checkShape({ numQueryHeads, numKvHeads, headSize }: Flags): void {
  if (numQueryHeads % numKvHeads !== 0) {
    throw new UcmError(
      "UCM_ERR_USAGE",
      `--num-query-heads ${numQueryHeads} is not a multiple of --num-kv-heads ${numKvHeads}`,
    );
  }
  if (headSize % 8 !== 0) {
    throw new UcmError("UCM_ERR_USAGE", `--head-size ${headSize} is not a multiple of 8`);
  }
}

function argumentsOf(flags: Flags): string[] {
  return Object.entries({
    phase: flags.phase,
    threads: flags.threads ?? inspectMachine().cores,
    "query-heads": flags.numQueryHeads,
    "kv-heads": flags.numKvHeads,
    "head-dim": flags.headSize,
    "block-size": flags.blockSize,
    dtype: flags.kvCacheDtype,
    lengths: flags.seqLen.join(","),
    batches: flags.batchSize.join(","),
    repeats: flags.numIters,
  }).map(([key, value]) => `${key}=${value}`);
}

const withShare = (line: CaseLine) => ({ ...line, ofRoof: line.rate / line.roof });

/** One line per case: time of a layer, rate, share of its roof. */
function renderCases(cases: readonly CaseLine[]): string {
  const lines = cases.map(({ kind, length, batch, order, secondsPerLayer, rate, roof }) => {
    const unit = kind === "prefill" ? "GFLOP/s" : "GB/s";
    const what =
      kind === "prefill"
        ? `Prefill of ${length}:`
        : `Decode at ${length}, batch ${batch}, ${order}:`;
    const ms = (1e3 * secondsPerLayer).toFixed(3);
    return row(
      what,
      `${ms} ms/layer, ${(rate / 1e9).toFixed(1)} ${unit}, ${percentOf(rate / roof)}`,
    );
  });
  return [centre("Attention, Share of the Roof", "-"), ...lines].join("\n");
}
