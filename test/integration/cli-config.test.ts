import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, it } from "vitest";
import { makeTempFolder } from "../helpers/temp-folder.js";
import { runUcm, startUcm } from "../helpers/ucm-command.js";

const folder = makeTempFolder();
const file = join(folder, "given.yaml");
writeFileSync(file, "port: 1\nhost: given\nseed: 5\n");

it("prints each value with where it came from", async () => {
  const { exitCode, stdout } = await runUcm(
    ["config", "/m", "--port", "4", "--config", file, "--api-key", "hidden"],
    { UCM_HOST: "from-env", VLLM_CPU_KVCACHE_SPACE: "2" },
  );
  expect(exitCode).toBe(0);
  const lines = stdout.split("\n").map((line) => line.split(/ {2,}/));
  expect(lines.slice(0, -1)).toEqual([
    ["api-key", "***", "# command line"],
    ["config", file, "# command line"],
    ["host", "from-env", "# UCM_HOST"],
    ["kv-cache-memory-bytes", "2147483648", "# VLLM_CPU_KVCACHE_SPACE"],
    ["model", "/m", "# command line"],
    ["port", "4", "# command line"],
    ["seed", "5", `# ${file}`],
  ]);
  expect(lines.at(-1)![0]).toMatch(/^# \d+ more at their defaults/);
});

it("prints JSON of all flags, and finds the configuration of the folder", async () => {
  writeFileSync(join(folder, "ucm.config.yaml"), "served-model-name: [a, b]\n");
  const { stdout, stderr } = await startUcm(
    ["config", "/m", "--json", "-dp", "2"],
    {},
    { cwd: folder },
  );
  const entries = JSON.parse(String(stdout));
  expect(entries["served-model-name"]).toEqual({
    value: ["a", "b"],
    source: join(folder, "ucm.config.yaml"),
  });
  expect(entries.port).toEqual({ value: 8000, source: "default" });
  expect(entries).not.toHaveProperty("json");
  expect(stderr).toMatch(/^warning: --data-parallel-size has no effect: [^\n]+\.$/);
});

it("is refused what serve would refuse", async () => {
  const { exitCode, stderr } = await runUcm(["config", "/m", "--enable-lora"]);
  expect(exitCode).toBe(2);
  expect(stderr).toContain("ucm config: error: argument --enable-lora: not supported");
});

it("prints the schema that the package ships", async () => {
  const { stdout } = await runUcm(["config", "--schema"]);
  expect(JSON.parse(stdout).properties.port).toMatchObject({ type: "integer", maximum: 65535 });
});

it("describes the machine without secrets", async () => {
  const { exitCode, stdout, stderr } = await runUcm(["collect-env"], {
    UCM_API_KEY: "abc",
    HF_TOKEN: "def",
    UCM_LOGGING_LEVEL: "INFO",
  });
  expect({ exitCode, stderr }).toEqual({ exitCode: 0, stderr: "" });
  expect(stdout).toMatch(/^Node\.js version +: v\d+/m);
  expect(stdout).toMatch(/^onnxruntime-node +: \d+\.\d+/m);
  expect(stdout).toMatch(/^Logical CPUs +: [1-9]/m);
  expect(stdout).toMatch(/^UCM_LOGGING_LEVEL *: INFO$/m);
  expect(stdout).toMatch(/^HF_TOKEN *: \*\*\*$/m);
  expect(stdout).not.toMatch(/abc|def/);
  expect((await runUcm(["collect-env", "extra"])).stderr).toBe(
    "usage: ucm collect-env [options]\nucm collect-env: error: unrecognized arguments: extra",
  );
});
