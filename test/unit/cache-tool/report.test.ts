import { describe, expect, it } from "vitest";
import {
  type FolderScan,
  folderStat,
  namespaceReports,
  readAbout,
  totalCounts,
} from "../../../src/cache-tool/index.js";

const about = JSON.stringify({
  model: "Qwen2.5-14B-Instruct",
  architecture: "Qwen2ForCausalLM",
  dtype: "auto",
  quantization: "int8",
  kvDtype: "bfloat16",
  blockSize: 128,
  rank: 1,
  worldSize: 2,
  isa: "avx512",
});
const server = (name: string, lines: string[], isDead = false) => ({
  name,
  isDead,
  heartbeatAtMs: 5_000,
  claimBytes: 1_000,
  pins: 1,
  stats: lines.join("\n"),
});

function folderOf(servers: ReturnType<typeof server>[]): FolderScan {
  return {
    folder: "/kv",
    freeBytes: 1,
    totalBytes: 2,
    scan: {
      namespaces: [
        { name: "aa", about },
        { name: "bb", about: "by hand\n" },
      ],
      keys: new Uint8Array(3 * 32).fill(0xab),
      namespaceIds: Uint32Array.of(0, 0, 1),
      bytes: Float64Array.of(100, 200, 400),
      writtenAtMs: Float64Array.of(10, 20, 30),
      usedAtNs: BigInt64Array.of(50_000_000n, 40_000_000n, 90_000_000n),
      pinned: Uint8Array.of(1, 0, 0),
      usedBytes: 1_000,
      temps: [],
      quarantined: [],
      pins: [],
      servers,
      failures: [],
    },
  };
}

describe("readAbout", () => {
  it("says in few words what a namespace is, whatever the file holds", () => {
    expect(readAbout(about)).toEqual({
      model: "Qwen2.5-14B-Instruct",
      details: "Qwen2ForCausalLM, weights int8, KV bfloat16, 128 tokens, rank 1 of 2",
    });
    expect(readAbout("by hand\n")).toEqual({ model: null, details: "by hand" });
    expect(readAbout("")).toEqual({ model: null, details: "" });
  });
});

describe("reports", () => {
  const counting = server("one", ["namespace aa", "store S", "startedAtMs 7", "lookups 4"]);

  it("sums up each namespace, the last used first", () => {
    const reports = namespaceReports(folderOf([counting, server("two", [], true)]));
    expect(reports).toMatchObject([
      { namespace: "bb", blocks: 1, bytes: 400, lastUsedAtMs: 90, servers: 0 },
      {
        ...{ namespace: "aa", blocks: 2, bytes: 300, pinnedBlocks: 1, servers: 1 },
        ...{ oldestAtMs: 10, newestAtMs: 20, lastUsedAtMs: 50 },
      },
    ]);
  });

  it("counts claims of running servers only, and a server of several folders once", () => {
    const dead = server("dead", ["store D", "lookups 1"], true);
    const stats = [folderOf([counting, dead]), folderOf([counting])].map(folderStat);
    expect(stats.map(({ claimBytes }) => claimBytes)).toEqual([1_000, 1_000]);
    expect(totalCounts(stats)).toEqual({ servers: 2, counts: { lookups: 5 } });
  });
});
