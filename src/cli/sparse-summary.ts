import type { SparseReport } from "../engine/index.js";
import type { AttentionCost, SparseCounts } from "../messages/index.js";

/** The lines of a summary on sparse attention: what it kept, what it cost, and what dense would have. */
export function sparseRows(report: SparseReport): [string, string][] {
  const { method, entered, promptBlocks, keptBlocks, counts } = report;
  const fallbacks = describeFallbacks(report);
  if (entered === 0 || counts === null) {
    const why = ", as no request had a prompt and an answer long enough for it";
    return [[method, `attention was dense${fallbacks || why}`]];
  }
  const share = ((100 * keptBlocks) / promptBlocks).toFixed(0);
  const sequences = `${entered} ${entered === 1 ? "sequence" : "sequences"}`;
  return [
    [
      method,
      `${sequences}, blocks kept ${keptBlocks} of ${promptBlocks} (${share} %), ${describeMemory(report)}${fallbacks}`,
    ],
    ["Attention", describeAttention(counts)],
    ["Recall", describeRecall(report)],
    ["Retrieval", describeRetrieval(counts)],
  ];
}

/** At the peaks, which may not have been at the same time. */
function describeMemory({ peakSavedBytes, peakDenseLayerBytes }: SparseReport): string {
  const mib = (bytes: number) => `${(bytes / 2 ** 20).toFixed(1)} MiB`;
  const beside =
    peakDenseLayerBytes > 0 ? `, ${mib(peakDenseLayerBytes)} of dense layers beside it` : "";
  return `${mib(peakSavedBytes)} of KV cache freed${beside}`;
}

function describeFallbacks({ refused, lost }: SparseReport): string {
  return [
    ...(refused > 0 ? [`; ${refused} stayed dense: the store had no room`] : []),
    ...(lost > 0 ? [`; ${lost} went on dense: the store lost blocks`] : []),
  ].join("");
}

/** Per decode step; the dense cost is scaled from the requests' own dense steps by their context. */
function describeAttention({ dense, sparse }: SparseCounts): string {
  if (sparse.steps === 0) return "no step was sparse alone";
  const sparseMs = sparse.micros / sparse.steps / 1000;
  const own = `${sparseMs.toFixed(2)} ms per decode step`;
  const denseMs = denseEquivalentMs(dense, sparse);
  if (denseMs === null) return own;
  return `${own}, dense-equivalent ${denseMs.toFixed(2)} ms (${(denseMs / sparseMs).toFixed(1)}x), by ${dense.steps} dense steps`;
}

/** What dense attention would have taken per sparse step; null when no dense step was measured. */
export function denseEquivalentMs(dense: AttentionCost, sparse: AttentionCost): number | null {
  if (dense.contextTokens === 0 || sparse.steps === 0) return null;
  const perToken = dense.micros / dense.contextTokens;
  return (perToken * sparse.contextTokens) / sparse.steps / 1000;
}

function describeRecall({ recall: { samples, mean, p5 } }: SparseReport): string {
  if (mean === null || p5 === null) return "not sampled";
  return `${percent(mean)} of attention mean, ${percent(p5)} p5 (${samples} samples)`;
}

function describeRetrieval(counts: SparseCounts): string {
  const { selections, earlySelections, selectMicros, loadMicros, waitMicros, lateSteps } = counts;
  const ms = (micros: number) => `${(micros / 1000).toFixed(1)} ms`;
  const early = earlySelections > 0 ? `, ${earlySelections} early` : "";
  const late = lateSteps > 0 ? ` in ${lateSteps} steps` : "";
  return `${selections} selections${early}: ${ms(selectMicros)} choosing, ${ms(loadMicros)} loading, ${ms(waitMicros)} waited for${late}`;
}

function percent(share: number): string {
  return `${(100 * share).toFixed(1)} %`;
}
