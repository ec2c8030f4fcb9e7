import { readdirSync, readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { defaultLoadersSync } from "cosmiconfig";
import { describe, expect, it } from "vitest";
import { readCommandLine } from "../../src/cli/command-flags.js";
import { parseKvTransferConfig } from "../../src/config/kv-transfer-config.js";
import { resolveStore } from "../../src/config/store-config.js";
import { type EngineSnapshot, ServingMetrics } from "../../src/metrics/index.js";
import { storeSeries } from "../../src/metrics/store-metrics.js";
import { captureLog } from "../helpers/captured-log.js";
import { parseExposition } from "../helpers/exposition.js";
import { testSparseSnapshot } from "../helpers/sparse-snapshot.js";
import { makeTempFolder } from "../helpers/temp-folder.js";

captureLog();

const configs = resolve(import.meta.dirname, "../../configs");
const read = (name: string) => readFileSync(join(configs, name), "utf8");
const loadYaml = (name: string) => defaultLoadersSync[".yaml"](name, read(name));

/** What a block of a small model takes. */
const block = { bytesPerBlock: 65_536, blockSize: 16, numLayers: 8 };

describe("ready configurations", () => {
  const files = readdirSync(configs).filter((name) => name.endsWith(".yaml"));

  it.each(files)("%s is taken as it is", async (name) => {
    const context = { env: {}, cwd: makeTempFolder() };
    for (const command of ["serve", "offline"] as const) {
      const line = await readCommandLine(command, ["--config", join(configs, name)], context);
      if (line.kind !== "run") throw new Error("no configuration");
      expect(line.flags.model).toBe("models/ucm-demo");
      const { kvTransferConfig } = line.flags;
      if (kvTransferConfig === null) continue;
      const folder = makeTempFolder();
      const text = JSON.stringify(kvTransferConfig).replace("/mnt/test", folder);
      const store = resolveStore(parseKvTransferConfig(JSON.parse(text)), block);
      expect(store).toMatchObject({ canLoad: true, canDump: true });
      expect(store!.backends).toEqual(store!.kind === "dram" ? [] : [folder]);
    }
  });
});

/** Every series that a server can have, with the names of a histogram's parts. */
async function seriesNames(): Promise<Set<string>> {
  const metrics = new ServingMetrics({
    ...{ modelName: "demo", hasEngineSeries: true, maxModelLen: 100, cacheConfig: { a: "b" } },
  });
  const values = Object.fromEntries(Object.keys(storeSeries).map((key) => [key, 1]));
  const snapshot: EngineSnapshot = {
    ...{ running: 0, waiting: 0, usedBlocks: 0, numBlocks: 1, numPreemptions: 0 },
    isAsleep: false,
    ...{ prefixCacheQueries: 0, prefixCacheHits: 0, promptTokens: 0, generatedTokens: 0 },
    externalPrefixCache: { queries: 0, hits: 0 },
    promptTokensBySource: { computed: 0, cached: 0, loaded: 0 },
    stores: [{ rank: 0, tiers: { files: values } }],
    sparse: testSparseSnapshot,
  };
  metrics.readFrom(() => snapshot);
  const http = { handler: "/", method: "GET", status: 200, durationMs: 1 };
  metrics.observeHttp({ ...http, requestBytes: 0, responseBytes: 0 });
  return new Set(parseExposition(await metrics.render()).map(({ name }) => name));
}

/** Names of series in an expression: words with a colon, or of the process and HTTP. */
const namesIn = (expression: string) =>
  expression.match(/\b(?:(?:vllm|ucm):\w+|(?:http|process)_\w+)/g) ?? [];

describe("dashboards and alerts", () => {
  const dashboard = JSON.parse(read("grafana/dashboard.json"));
  const rules = loadYaml("grafana/rules.yml").groups.flatMap(
    ({ rules }: { rules: { expr: string; alert?: string }[] }) => rules,
  );
  const expressions: string[] = [
    ...dashboard.panels.flatMap(({ targets }: { targets: { expr: string }[] }) =>
      targets.map(({ expr }) => expr),
    ),
    ...rules.map(({ expr }: { expr: string }) => expr),
  ];

  it("use series that exist, and no other", async () => {
    const known = await seriesNames();
    const used = expressions.flatMap(namesIn);
    expect(used.length).toBeGreaterThan(50);
    expect([...new Set(used.filter((name) => !known.has(name)))]).toEqual([]);
  });

  it("show all nine histograms of UCM, and have whole expressions", () => {
    const used = new Set(expressions.flatMap(namesIn).map((name) => name.replace(/_sum$/, "")));
    for (const what of ["load", "save"]) {
      for (const part of ["requests_num", "blocks_num", "duration", "speed"]) {
        expect(used).toContain(`ucm:${what}_${part}`);
      }
    }
    expect(used).toContain("ucm:interval_lookup_hit_rates");
    for (const expression of expressions) {
      const count = (character: string) => expression.split(character).length;
      expect([count("("), count("{"), count("[")]).toEqual([count(")"), count("}"), count("]")]);
    }
  });

  it("are read by a Prometheus that finds the rules", () => {
    const { rule_files: files, scrape_configs: jobs } = loadYaml("grafana/prometheus.yml");
    expect(files.every((name: string) => read(`grafana/${name}`) !== "")).toBe(true);
    expect(jobs[0].job_name).toBe("ucm");
  });
});
