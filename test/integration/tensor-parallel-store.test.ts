import { readFileSync, writeFileSync } from "node:fs";
import { beforeAll, describe, expect, it } from "vitest";
import type { StoreKind } from "../../src/messages/index.js";
import { listBlockFiles } from "./file-damage.js";
import { rankServers } from "./rank-servers.js";
import {
  ask,
  BLOCK,
  bitsOf,
  type LabAnswer,
  type LabServer,
  startServer,
  tokensOf,
} from "./store-lab.js";

/** Whole blocks and a piece, so that a hit leaves something to compute. */
const documents = [0, 1, 2].map((salt) => tokensOf(4 * BLOCK + 5, salt));
const WHOLE_HIT = 4 * BLOCK;
/** Room for one document and what is generated, so that each pushes the last one out. */
const SMALL_ARENA = { numBlocks: 6 };

const { folder, start } = rankServers();

async function askAll(server: LabServer): Promise<LabAnswer[]> {
  const answers: LabAnswer[] = [];
  for (const document of documents) answers.push(await ask(server, document));
  return answers;
}

const cachedOf = (answers: readonly LabAnswer[]) => answers.map(({ cachedTokens }) => cachedTokens);
const allOf = (count: number) => documents.map(() => count);

let cold: ReturnType<typeof bitsOf>[];
beforeAll(async () => {
  const server = await startServer({
    tensorParallelSize: 2,
    cache: { enablePrefixCaching: false },
    store: null,
  });
  cold = (await askAll(server)).map(bitsOf);
  await server.stop();
});

describe("two ranks", () => {
  it("find prefixes in their arenas, with the bits of a cold run", async () => {
    const server = await start({});
    expect(cachedOf(await askAll(server))).toEqual(allOf(0));
    const warm = await askAll(server);
    expect(cachedOf(warm)).toEqual(allOf(WHOLE_HIT));
    expect(warm.map(bitsOf)).toEqual(cold);
  });

  it.each<StoreKind>(["dram", "files", "pipeline"])(
    "find them in a store of kind %s, in one folder, each its own part",
    async (kind) => {
      const backends = kind === "dram" ? [] : [folder()];
      const server = await start({ cache: SMALL_ARENA, store: { kind, backends } });
      expect((await askAll(server)).map(bitsOf)).toEqual(cold);
      const warm = await askAll(server);
      expect(cachedOf(warm)).toEqual(allOf(WHOLE_HIT));
      expect(warm.map(bitsOf)).toEqual(cold);
      await server.stop();
      const parts = kind === "dram" ? 0 : (2 * documents.length * WHOLE_HIT) / BLOCK;
      expect(listBlockFiles(folder())).toHaveLength(parts);
    },
  );

  it("find them after a restart, and blocks of another size never", async () => {
    const store = { kind: "files", backends: [folder()] } as const;
    const first = await start({ store });
    await askAll(first);
    await first.stop();
    const other = await start({ store, tensorParallelSize: 1 });
    expect(cachedOf(await askAll(other))).toEqual(allOf(0));
    await other.stop();
    const again = await start({ store });
    const warm = await askAll(again);
    expect(cachedOf(warm)).toEqual(allOf(WHOLE_HIT));
    expect(warm.map(bitsOf)).toEqual(cold);
  });

  it("compute together what one of them finds damaged", async () => {
    const store = { kind: "files", backends: [folder()] } as const;
    const first = await start({ store });
    await askAll(first);
    await first.stop();
    // Parts of one rank come first, then those of the other.
    const damaged = listBlockFiles(folder()).filter((_, i) => i % 5 === 0);
    for (const { path } of damaged) {
      const bytes = readFileSync(path);
      bytes[bytes.length - 1]! ^= 1;
      writeFileSync(path, bytes);
    }
    const again = await start({ store });
    const answers = await askAll(again);
    expect(answers.map(bitsOf)).toEqual(cold);
    const cached = cachedOf(answers).reduce((sum, count) => sum + count, 0);
    expect(cached).toBeLessThan(documents.length * WHOLE_HIT);
    const healed = await askAll(again);
    expect(healed.map(bitsOf)).toEqual(cold);
    expect(cachedOf(healed)).toEqual(allOf(WHOLE_HIT));
  });
});
