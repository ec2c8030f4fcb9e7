import { expect, it } from "vitest";
import type { SparseCounts, SparseNews } from "../../../src/messages/index.js";
import { SparseRanks } from "../../../src/sparse/index.js";

const news = (fields: Partial<SparseNews>): SparseNews => ({
  ready: [],
  refused: [],
  lost: [],
  recalls: new Float32Array(0),
  counts: {} as SparseCounts,
  ...fields,
});

const step = (finished: number[] = [], leave: number[] = []) => ({
  finished: Int32Array.from(finished),
  sparse: { leave: Int32Array.from(leave), enter: [], watch: [] },
});

it("a sequence is ready when every rank has said so, in whatever step", () => {
  const ranks = new SparseRanks(2);
  expect(ranks.merge(step(), [null, null])).toBeNull();
  expect(ranks.merge(step(), [news({ ready: [1, 2] }), null])!.ready).toEqual([]);
  expect(ranks.merge(step(), [null, news({ ready: [2] })])!.ready).toEqual([2]);
  expect(ranks.merge(step(), [news({}), news({ ready: [1] })])!.ready).toEqual([1]);
  expect(ranks.merge(step(), [news({ ready: [2] }), news({ ready: [2] })])!.ready).toEqual([2]);
});

it("is refused when one rank refuses, and forgotten when it leaves or ends", () => {
  const ranks = new SparseRanks(2);
  expect(ranks.merge(step(), [news({ ready: [1] }), news({ refused: [1] })])).toMatchObject({
    ready: [],
    refused: [1],
  });
  ranks.merge(step(), [news({ ready: [5, 6, 7] }), news({})]);
  ranks.merge(step([5], [6]), [news({}), news({})]);
  const again = ranks.merge(step(), [news({}), news({ ready: [5, 6, 7] })])!;
  expect(again.ready).toEqual([7]);
});

it("loses what any rank loses, once, and joins the recalls", () => {
  const ranks = new SparseRanks(2);
  const both = [
    news({ lost: [4], recalls: Float32Array.of(0.5) }),
    news({ lost: [4], recalls: Float32Array.of(0.75) }),
  ];
  const merged = ranks.merge(step(), both)!;
  expect(merged.lost).toEqual([4]);
  expect([...merged.recalls]).toEqual([0.5, 0.75]);
});
