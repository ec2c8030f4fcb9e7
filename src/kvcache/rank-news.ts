import type {
  StoreBlockStatus,
  StoreFound,
  StoreLoaded,
  StoreNews,
  StoreTier,
} from "../messages/index.js";

/** Answers of some ranks to tasks that others have not answered yet. */
export interface PartialNews {
  readonly found: readonly StoreFound[];
  readonly loaded: readonly StoreLoaded[];
}

export const noPartialNews: PartialNews = { found: [], loaded: [] };

/**
 * What the stores of all ranks say together, of which each holds its own part of every block: a block
 * is present only where every rank's part is, and loaded only when every rank's is. `news` has one
 * entry per rank for one step, null for none; ranks answer a task in any step, once, and it is
 * answered when the last one has. Pure: `rest` is what to hand in with the next step.
 */
export function mergeRankNews(
  partial: PartialNews,
  news: readonly (StoreNews | null)[],
): { news: StoreNews | null; rest: PartialNews } {
  const said = news.filter((one) => one !== null);
  const found = gather(
    [...partial.found, ...said.flatMap((one) => one.found)],
    news.length,
    mergeFound,
  );
  const loaded = gather(
    [...partial.loaded, ...said.flatMap((one) => one.loaded)],
    news.length,
    mergeLoaded,
  );
  const notStored = [...new Set(said.flatMap((one) => one.notStored))];
  const isEmpty = found.whole.length + loaded.whole.length + notStored.length === 0;
  return {
    news: isEmpty ? null : { found: found.whole, loaded: loaded.whole, notStored },
    rest: { found: found.rest, loaded: loaded.rest },
  };
}

/** Merges the answers to tasks that all ranks have given, in the order of their first answers. */
function gather<Answer extends { taskId: number }>(
  answers: readonly Answer[],
  numRanks: number,
  merge: (answers: readonly Answer[]) => Answer,
): { whole: Answer[]; rest: Answer[] } {
  const byTask = new Map<number, Answer[]>();
  for (const answer of answers) {
    const others = byTask.get(answer.taskId);
    if (others === undefined) byTask.set(answer.taskId, [answer]);
    else others.push(answer);
  }
  const tasks = [...byTask.values()];
  return {
    whole: tasks.filter(({ length }) => length === numRanks).map(merge),
    rest: tasks.filter(({ length }) => length < numRanks).flat(),
  };
}

/** The slower tier counts: that is how long a load of all parts takes. */
function mergeFound(answers: readonly StoreFound[]): StoreFound {
  const { taskId, tiers } = answers[0]!;
  const tierOf = (i: number): StoreTier | null => {
    const parts = answers.map((answer) => answer.tiers[i] ?? null);
    if (parts.includes(null)) return null;
    return parts.includes("file") ? "file" : "memory";
  };
  return { taskId, tiers: tiers.map((_, i) => tierOf(i)) };
}

/** Which status a block has when its parts have different ones. */
const worstFirst: readonly StoreBlockStatus[] = ["corrupt", "failed", "missing", "ok"];

function mergeLoaded(answers: readonly StoreLoaded[]): StoreLoaded {
  const { taskId, statuses } = answers[0]!;
  const statusOf = (i: number): StoreBlockStatus => {
    const parts = answers.map((answer) => answer.statuses[i] ?? "missing");
    return worstFirst.find((status) => parts.includes(status))!;
  };
  const durations = answers.map(({ durationMs }) => durationMs);
  return {
    taskId,
    statuses: statuses.map((_, i) => statusOf(i)),
    durationMs: durations.includes(null) ? null : Math.max(...(durations as number[])),
  };
}
