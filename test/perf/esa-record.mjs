/** What a step was: prompts, mixed, or decoding by sequences that are all dense, watched or sparse. */
function kindOf(step, news, before) {
  const isDecode = step.scheduled.length > 0 && step.scheduled.every((it) => it.numTokens === 1);
  if (!isDecode) return "prompt";
  if (news === null) return "dense";
  if (news.counts.dense.steps > before.dense.steps) return "watched";
  return news.counts.sparse.steps > before.sparse.steps ? "sparse" : "mixed";
}

const none = { steps: 0, micros: 0 };
const noCounts = { dense: none, sparse: none };

/** Microseconds that sparse attention's own counts name. */
const parts = ["selectMicros", "loadMicros", "waitMicros", "switchMicros"];

/** What the counts grew by in a step, ms. */
function growth(counts, before) {
  const ms = (after, first) => ((after ?? 0) - (first ?? 0)) / 1000;
  const grown = Object.fromEntries(
    parts.map((name) => [name.replace("Micros", "Ms"), ms(counts[name], before[name])]),
  );
  return {
    ...grown,
    attentionMs: ["dense", "sparse"].reduce(
      (sum, kind) => sum + ms(counts[kind].micros, before[kind].micros),
      0,
    ),
  };
}

/**
 * Stands between engine and workers: keeps what each step was and took, and holds back the news that
 * sequences are ready for sparse attention until so many steps were watched ones, which attend all
 * their blocks. So a request is dense first and sparse then, with the same cache and weights.
 */
export class StepRecord {
  engine = null;
  steps = [];
  onStep = () => undefined;
  #holdSteps = 0;
  #numSequences = 0;
  #held = [];
  #counts = noCounts;
  #lastEndMs = 0;

  /** Forgets the steps before; holds `numSequences` sequences for so many steps, all together. */
  start({ holdSteps, numSequences, onStep = () => undefined }) {
    this.steps = [];
    this.onStep = onStep;
    this.#holdSteps = holdSteps;
    this.#numSequences = numSequences;
    this.#held = [];
    this.#lastEndMs = performance.now();
  }

  /** Steps of a kind that all sequences were in, those apart that also made sequences enter. */
  of(kind) {
    const isWhole = ({ numScheduled, hasEntry }) =>
      numScheduled === this.#numSequences && !hasEntry;
    return this.steps.filter((step) => step.kind === kind && isWhole(step));
  }

  wrap = (executor) => ({
    execute: async (step, masks) => {
      const usedBlocks = this.engine?.stats().usedBlocks;
      const result = await executor.execute(step, masks);
      const news = result.sparse ?? null;
      const endMs = performance.now();
      const counts = news?.counts ?? this.#counts;
      this.steps.push({
        kind: kindOf(step, news, this.#counts),
        numScheduled: step.scheduled.length,
        hasEntry: (step.sparse?.enter.length ?? 0) > 0,
        positions: step.scheduled.map((it) => it.numComputedTokens + it.numTokens),
        usedBlocks,
        wallMs: endMs - this.#lastEndMs,
        ...growth(counts, this.#counts),
      });
      this.#counts = counts;
      this.#lastEndMs = endMs;
      const passed = news === null ? result : { ...result, sparse: this.#hold(news) };
      this.onStep();
      return passed;
    },
  });

  /** All become sparse in one step. */
  #hold(news) {
    if (this.#holdSteps === 0) return news;
    this.#held.push(...news.ready);
    const isOver =
      this.#held.length >= this.#numSequences && this.of("watched").length >= this.#holdSteps;
    if (!isOver) return { ...news, ready: [] };
    this.#holdSteps = 0;
    return { ...news, ready: this.#held };
  }
}
