import type { SparseReport } from "../engine/index.js";
import { metricsOf, type PromptResult } from "./offline-record.js";
import { sparseRows } from "./sparse-summary.js";

/** Sums over prompts, gathered as they end. */
export class OfflineSummary {
  #promptTokens = 0;
  #outputTokens = 0;
  #numDone = 0;
  readonly #ttftMs: number[] = [];
  readonly #tpotMs: number[] = [];
  readonly #errors: string[] = [];

  add(result: PromptResult): void {
    this.#numDone += 1;
    this.#promptTokens += result.request.request.promptTokenIds.length;
    for (const { tokenIds } of result.sequences) this.#outputTokens += tokenIds.length;
    const { ttft_ms: ttft, tpot_ms: tpot } = metricsOf(result);
    if (ttft !== null) this.#ttftMs.push(ttft);
    if (tpot !== null) this.#tpotMs.push(tpot);
    if (result.error !== null) {
      this.#errors.push(`prompt ${result.request.index}: ${result.error.message}`);
    }
  }

  get numDone(): number {
    return this.#numDone;
  }

  get numFailed(): number {
    return this.#errors.length;
  }

  /** At most this many failures are told one by one. */
  static readonly maxErrorsShown = 3;

  /** One screen; `wallMs` is without loading. */
  render(
    numPrompts: number,
    wallMs: number,
    loadMs: number,
    sparse: SparseReport | null = null,
  ): string {
    const rate = (tokens: number) =>
      `${((tokens * 1000) / Math.max(wallMs, 1)).toFixed(1)} tokens/s`;
    const failed = this.#errors.length === 0 ? "" : `, ${this.#errors.length} failed`;
    const rows = [
      ["Prompts", `${this.#numDone} of ${numPrompts} done${failed}`],
      ["Tokens", `${this.#promptTokens} in, ${this.#outputTokens} out`],
      ["TTFT", describe(this.#ttftMs)],
      ["TPOT", `${describe(this.#tpotMs)}${decodeRate(this.#tpotMs)}`],
      ["Throughput", `${rate(this.#promptTokens)} in, ${rate(this.#outputTokens)} out`],
      ["Wall time", `${seconds(wallMs)} (loading took ${seconds(loadMs)})`],
      ...(sparse === null ? [] : sparseRows(sparse)),
    ];
    const shown = this.#errors.slice(0, OfflineSummary.maxErrorsShown);
    const lines = rows.map(([name, value]) => `  ${name!.padEnd(12)}${value}`);
    return [...lines, ...shown.map((error) => `  failed: ${error}`)].join("\n");
  }
}

/** Mean, and the spread when there is one. */
function describe(valuesMs: readonly number[]): string {
  if (valuesMs.length === 0) return "none";
  const mean = valuesMs.reduce((sum, value) => sum + value, 0) / valuesMs.length;
  if (valuesMs.length === 1) return `${mean.toFixed(1)} ms`;
  const sorted = [...valuesMs].sort((a, b) => a - b);
  const p99 = sorted[Math.min(sorted.length - 1, Math.ceil(sorted.length * 0.99) - 1)]!;
  return `${mean.toFixed(1)} ms mean, ${p99.toFixed(1)} ms p99`;
}

/** The same as TPOT, the way round that people compare. */
function decodeRate(tpotMs: readonly number[]): string {
  if (tpotMs.length === 0) return "";
  const mean = tpotMs.reduce((sum, value) => sum + value, 0) / tpotMs.length;
  return ` (${(1000 / mean).toFixed(1)} tokens/s per sequence)`;
}

function seconds(ms: number): string {
  return `${(ms / 1000).toFixed(2)} s`;
}
