import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { afterEach, describe, expect, it } from "vitest";
import { makeTempFolder } from "../helpers/temp-folder.js";
import { root, runUcm } from "../helpers/ucm-command.js";
import { ask, bitsOf, type LabServer, startServer, tokensOf } from "./store-lab.js";

const example = join(root, "configs/plugins/map-store.mjs");
const exampleUrl = pathToFileURL(example).href;
const folder = makeTempFolder();
const servers: LabServer[] = [];

afterEach(async () => {
  for (const server of servers.splice(0)) await server.stop();
});

/** A server whose blocks are found in the plug-in alone. */
async function start(url: string, exportName: string, settings = {}) {
  const module = { url, exportName, settings };
  const server = await startServer({
    cache: { enablePrefixCaching: false },
    store: { kind: "module", module, loadDecision: "always" },
  });
  servers.push(server);
  return server;
}

/** A module around the example, whose `get` is changed. */
function changed(name: string, get: string): string {
  const path = join(folder, `${name}.mjs`);
  const body = `async get(keys) { const records = await super.get(keys); ${get} }`;
  writeFileSync(
    path,
    `import { MapStore } from "${exampleUrl}";\nexport class Changed extends MapStore { ${body} }\n`,
  );
  return pathToFileURL(path).href;
}

const prompt = tokensOf(100, 1);

async function coldAnswer() {
  const server = await startServer({ store: null });
  servers.push(server);
  return bitsOf(await ask(server, prompt));
}

describe("a connector plug-in", () => {
  it("gives back what it was given, with the same answer to the bit", async () => {
    const cold = await coldAnswer();
    const server = await start(exampleUrl, "MapStore", { max_blocks: 50 });
    const first = await ask(server, prompt);
    const second = await ask(server, prompt);
    expect([first.cachedTokens, second.cachedTokens]).toEqual([0, 96]);
    expect([bitsOf(first), bitsOf(second)]).toEqual([cold, cold]);
  });

  it.each([
    ["changes a byte", "for (const r of records) if (r) r[500] ^= 1; return records;"],
    ["swaps blocks", "return records.reverse();"],
    ["cuts records", "return records.map((r) => r?.subarray(0, 100) ?? null);"],
    ["rejects", 'throw new Error("broken");'],
    ["answers nonsense", "return 7;"],
  ])("cannot make an answer wrong when it %s", async (name, get) => {
    const cold = await coldAnswer();
    const server = await start(changed(name.replaceAll(" ", "-"), get), "Changed");
    expect(bitsOf(await ask(server, prompt))).toEqual(cold);
    const warm = await ask(server, prompt);
    expect(bitsOf(warm)).toEqual(cold);
    expect(warm.cachedTokens).toBeLessThan(96);
  });

  it("is named by kv_connector_module_path, and told of what is wrong with it", async () => {
    const bad = join(folder, "bad.mjs");
    writeFileSync(bad, "export class Bad { async has() {} }\nexport const other = 1;\n");
    const spoilt = join(folder, "spoilt.mjs");
    writeFileSync(spoilt, "export class {\n");
    const run = (path: string, connector: string, extra = {}) =>
      runUcm([
        "offline",
        ...["--prompt", "Once", "--max-tokens", "2", "--kv-transfer-config"],
        JSON.stringify({
          ...{ kv_connector: connector, kv_connector_module_path: path, kv_role: "kv_both" },
          kv_connector_extra_config: extra,
        }),
      ]);
    expect(await run(example, "MapStore")).toMatchObject({ exitCode: 0 });
    const cases: [string, string, object, string][] = [
      ["./nowhere.mjs", "MapStore", {}, "no JavaScript module is there"],
      [example, "MyStore", {}, "it exports no class MyStore, only: MapStore"],
      [example, "MapStore", { max_blocks: 0 }, "max_blocks must be a whole number from 1 on"],
      [bad, "Bad", {}, "Bad has no method get, put"],
      [spoilt, "Bad", {}, `The connector plug-in file://${spoilt} cannot be used: `],
    ];
    for (const [path, connector, extra, message] of cases) {
      const { exitCode, stderr } = await run(path, connector, extra);
      expect(stderr).toContain(message);
      expect(stderr).not.toContain("    at ");
      expect(exitCode).toBe(2);
    }
  });
});
