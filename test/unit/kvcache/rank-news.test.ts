import { describe, expect, it } from "vitest";
import { mergeRankNews, noPartialNews, type PartialNews } from "../../../src/kvcache/index.js";
import type { StoreNews } from "../../../src/messages/index.js";
import { seededRandom } from "../scheduler/random-workload.js";

const news = (changes: Partial<StoreNews>): StoreNews => ({
  found: [],
  loaded: [],
  notStored: [],
  ...changes,
});

describe("news of the stores of several ranks", () => {
  it("of one rank are its own", () => {
    const own = news({
      found: [{ taskId: 1, tiers: ["memory", null] }],
      loaded: [{ taskId: 2, statuses: ["ok", "corrupt"], durationMs: 3 }],
      notStored: ["a"],
    });
    expect(mergeRankNews(noPartialNews, [own])).toEqual({ news: own, rest: noPartialNews });
    expect(mergeRankNews(noPartialNews, [null])).toEqual({ news: null, rest: noPartialNews });
  });

  it("find a block only where every rank's part is, in the slowest tier of its parts", () => {
    const one = news({ found: [{ taskId: 1, tiers: ["memory", "memory", "file", null] }] });
    const other = news({ found: [{ taskId: 1, tiers: ["memory", "file", null, "memory"] }] });
    const { news: merged } = mergeRankNews(noPartialNews, [one, other]);
    expect(merged!.found).toEqual([{ taskId: 1, tiers: ["memory", "file", null, null] }]);
  });

  it("have loaded a block only when every rank has", () => {
    const parts = (["ok", "missing", "failed", "corrupt"] as const).map((status) =>
      news({ loaded: [{ taskId: 1, statuses: ["ok", status], durationMs: 4 }] }),
    );
    const statusOf = (ranks: StoreNews[]) =>
      mergeRankNews(noPartialNews, ranks).news!.loaded[0]!.statuses;
    for (const [i, status] of (["ok", "missing", "failed", "corrupt"] as const).entries()) {
      expect(statusOf([parts[0]!, parts[i]!, parts[0]!])).toEqual(["ok", status]);
      expect(statusOf([parts[i]!, parts[0]!])).toEqual(["ok", status]);
    }
    expect(statusOf(parts)).toEqual(["ok", "corrupt"]);
  });

  it("take as long as the slowest rank, or nobody knows how long", () => {
    const took = (...durations: (number | null)[]) => {
      const ranks = durations.map((durationMs) =>
        news({ loaded: [{ taskId: 1, statuses: [], durationMs }] }),
      );
      return mergeRankNews(noPartialNews, ranks).news!.loaded[0]!.durationMs;
    };
    expect(took(3, 9, 4)).toBe(9);
    expect(took(3, null)).toBeNull();
  });

  it("wait for the last rank, over any number of steps", () => {
    const answer = (taskId: number) => news({ found: [{ taskId, tiers: ["file"] }] });
    const first = mergeRankNews(noPartialNews, [answer(1), null]);
    expect(first.news).toBeNull();
    const second = mergeRankNews(first.rest, [answer(2), null]);
    expect(second.news).toBeNull();
    const third = mergeRankNews(second.rest, [null, answer(2)]);
    expect(third.news!.found.map(({ taskId }) => taskId)).toEqual([2]);
    const last = mergeRankNews(third.rest, [null, answer(1)]);
    expect(last).toEqual({ news: answer(1), rest: noPartialNews });
  });

  it("that one rank could not store are not stored", () => {
    const ranks = [news({ notStored: ["a", "b"] }), null, news({ notStored: ["b", "c"] })];
    expect(mergeRankNews(noPartialNews, ranks).news!.notStored).toEqual(["a", "b", "c"]);
  });

  it("answer every task once whatever the order: 1,000 tasks on 4 ranks", () => {
    const random = seededRandom(3);
    const NUM_TASKS = 1000;
    const waiting = Array.from({ length: 4 }, () =>
      Array.from({ length: NUM_TASKS }, (_, taskId) => ({ taskId, tier: random(0, 4) })),
    );
    const present = new Map<number, boolean>();
    for (const rank of waiting) {
      for (const { taskId, tier } of rank) {
        present.set(taskId, (present.get(taskId) ?? true) && tier > 0);
      }
    }
    const answered = new Map<number, boolean>();
    let rest: PartialNews = noPartialNews;
    while (waiting.some((rank) => rank.length > 0)) {
      const step = waiting.map((rank) => {
        const found = Array.from({ length: Math.min(rank.length, random(0, 3)) }, () => {
          const place = random(0, Math.min(rank.length - 1, 20));
          const { taskId, tier } = rank.splice(place, 1)[0]!;
          return { taskId, tiers: [tier === 0 ? null : ("memory" as const)] };
        });
        return found.length === 0 ? null : news({ found });
      });
      const merged = mergeRankNews(rest, step);
      rest = merged.rest;
      for (const { taskId, tiers } of merged.news?.found ?? []) {
        expect(answered.has(taskId)).toBe(false);
        answered.set(taskId, tiers[0] !== null);
      }
    }
    expect(rest).toEqual(noPartialNews);
    expect([...answered].sort(([a], [b]) => a - b)).toEqual([...present]);
  });
});
