import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { defaultLoadersSync } from "cosmiconfig";
import { describe, expect, it } from "vitest";
import { z } from "zod";
import { configSchema } from "../../../src/cli/config-schema.js";
import { configFileTable } from "../../../src/cli/flags/index.js";
import { root } from "../../helpers/ucm-command.js";

const folder = join(root, "configs");
const path = join(folder, "ucm.schema.json");

describe("configs/ucm.schema.json", () => {
  it("is what the flag table says", () => {
    const wanted = `${JSON.stringify(configSchema(), null, 2)}\n`;
    if (process.env.UCM_UPDATE_README) writeFileSync(path, wanted);
    expect(readFileSync(path, "utf8"), "run with UCM_UPDATE_README=1").toBe(wanted);
  });

  it("has every key that a file may have", () => {
    const { properties } = configSchema() as { properties: Record<string, unknown> };
    const keys = Object.keys(configFileTable).filter((name) => name !== "config");
    expect(Object.keys(properties).sort()).toEqual([...keys, "model-tag"].sort());
  });
});

describe("the schema as a validator", () => {
  const schema = z.fromJSONSchema(configSchema() as Parameters<typeof z.fromJSONSchema>[0]);
  const check = (value: unknown) => schema.safeParse(value).success;

  const files = readdirSync(folder).filter((name) => name.endsWith(".yaml"));
  it.each(files)("accepts configs/%s", (name) => {
    const file = join(folder, name);
    const content = defaultLoadersSync[".yaml"](file, readFileSync(file, "utf8"));
    expect(schema.safeParse(content).error).toBeUndefined();
  });

  it.each([
    { "max-model-len": "16K" },
    { "max-model-len": "auto" },
    { "max-model-len": 4096, "served-model-name": ["a", "b"] },
    { "enable-prefix-caching": false, "no-use-tqdm-on-load": true, max_num_seqs: 4 },
    { "kv-transfer-config": { kv_role: "kv_both" }, "block-size": 32, quantization: null },
  ])("accepts %j", (value) => expect(check(value)).toBe(true));

  it.each([
    { "max-model-len": "16Q" },
    { "max-model-lenn": 1 },
    { port: 70_000 },
    { port: "many" },
    { "block-size": 7 },
    { "enable-prefix-caching": "perhaps" },
    { "kv-transfer-config": "{}" },
  ])("refuses %j", (value) => expect(check(value)).toBe(false));
});
