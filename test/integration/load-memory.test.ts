import { readFileSync } from "node:fs";
import { beforeAll, describe, expect, it } from "vitest";
import type { EngineConfig } from "../../src/config/engine-config.js";
import { launchWorkers } from "../../src/launcher/index.js";
import type { Quantization } from "../../src/messages/index.js";
import { makeFolder, tinyConfig } from "../helpers/checkpoint.js";
import { testEngineConfig } from "../helpers/engine-config.js";

/** Two thirds of the layers of a 0.5B model, and a smaller head. */
const largeConfig = {
  ...tinyConfig,
  vocab_size: 60_000,
  hidden_size: 896,
  intermediate_size: 4864,
  num_hidden_layers: 16,
  num_attention_heads: 14,
  torch_dtype: "bfloat16",
};

/** Peak resident bytes of a worker once it has loaded, and the weights it says it has. */
async function load(hfConfig: object, quantization: Quantization) {
  const path = makeFolder({ "config.json": JSON.stringify(hfConfig) });
  const config: EngineConfig = testEngineConfig({ path, loadFormat: "dummy", quantization });
  const workers = await launchWorkers(config, { workerEntry: builtWorker });
  const { pid } = process;
  const child = readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8").trim().split(" ").at(-1);
  const status = readFileSync(`/proc/${child}/status`, "utf8");
  const peakBytes = Number(/VmHWM:\s+(\d+)/.exec(status)![1]) * 1024;
  await workers.shutdown();
  return { peakBytes, weightBytes: workers.ready.weightBytes };
}

const builtWorker = new URL("../../dist/worker/main.js", import.meta.url).pathname;

describe("loading takes at most 1.3 times the memory of the weights", () => {
  let emptyBytes = 0;
  beforeAll(async () => {
    emptyBytes = (await load(tinyConfig, null)).peakBytes;
  });

  it.each([
    ["fp32", null],
    ["int8", "int8"],
    ["int4", "int4"],
  ] as const)("%s", async (_, quantization) => {
    const { peakBytes, weightBytes } = await load(largeConfig, quantization);
    expect(weightBytes).toBeGreaterThan(100e6);
    expect((peakBytes - emptyBytes) / weightBytes).toBeGreaterThan(0.9);
    expect((peakBytes - emptyBytes) / weightBytes).toBeLessThan(1.3);
  });
});
