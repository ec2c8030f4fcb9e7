import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeEach, describe, expect, it } from "vitest";
import { readCommandLine } from "../../../src/cli/command-flags.js";
import type { EngineCommandName } from "../../../src/cli/flags/index.js";
import { flagTable } from "../../../src/cli/flags/index.js";
import { makeTempFolder } from "../../helpers/temp-folder.js";

let folder = "";
beforeEach(() => {
  folder = makeTempFolder();
});

function write(name: string, text: string): string {
  const path = join(folder, name);
  writeFileSync(path, text);
  return path;
}

async function run(
  argv: string[],
  env: Record<string, string> = {},
  command: EngineCommandName = "serve",
) {
  const line = await readCommandLine(command, argv, { env, cwd: folder });
  if (line.kind !== "run") throw new Error("help came out");
  return line;
}

const failure = (...args: Parameters<typeof run>) =>
  run(...args).then(
    () => "accepted",
    (error: Error) => error.message,
  );

describe("sources of flags", () => {
  it("puts flag over environment over --config over the found configuration over default", async () => {
    write("ucm.config.yaml", "port: 1\nhost: found\nmax-num-seqs: 10\nblock-size: 8\n");
    const config = write("given.yaml", "port: 2\nhost: given\nmax_num_seqs: 20\n");
    const env = { UCM_PORT: "3", UCM_HOST: "environment" };
    const { flags } = await run(["/m", "--port", "4", "--config", config], env);
    expect(flags).toMatchObject({
      model: "/m",
      port: 4,
      host: "environment",
      maxNumSeqs: 20,
      blockSize: 8,
      seed: 0,
    });
  });

  it("honours false and --config=FILE", async () => {
    const config = write("given.yaml", "enable-chunked-prefill: false\nmodel: /from-file\n");
    const { flags } = await run([`--config=${config}`]);
    expect(flags.enableChunkedPrefill).toBe(false);
    expect(flags.model).toBe("/from-file");
  });

  it("caches prefixes unless told not to, under the hash that vLLM's launch lines name", async () => {
    expect((await run(["/m"])).flags).toMatchObject({
      enablePrefixCaching: true,
      prefixCachingHashAlgo: null,
    });
    const argv = ["/m", "--no-enable-prefix-caching", "--prefix-caching-hash-algo", "sha256_cbor"];
    const { flags, warnings } = await run(argv);
    expect(flags.enablePrefixCaching).toBe(false);
    expect(flags.prefixCachingHashAlgo).toBe("sha256_cbor");
    expect(warnings).toEqual([]);
    expect(await failure(["/m", "--prefix-caching-hash-algo", "md5"])).toContain("invalid choice");
  });

  it("reads lists, mappings, human numbers and no- keys from YAML", async () => {
    const config = write(
      "given.yaml",
      "served-model-name: [a, b]\nmax-model-len: 4K\nhf-overrides:\n  rope_theta: 5\nno-use-tqdm-on-load: true\n",
    );
    const { flags } = await run(["/m", "--config", config]);
    expect(flags.servedModelName).toEqual(["a", "b"]);
    expect(flags.maxModelLen).toBe(4096);
    expect(flags.hfOverrides).toEqual({ rope_theta: 5 });
    expect(flags.useTqdmOnLoad).toBe(false);
  });

  it("reads .ucmrc and package.json", async () => {
    write("package.json", '{"ucm": {"port": 11}}');
    expect((await run(["/m"])).flags.port).toBe(11);
  });

  it("knows vLLM's variables", async () => {
    const env = { VLLM_API_KEY: "secret", VLLM_CPU_KVCACHE_SPACE: "2" };
    const { flags } = await run(["/m"], env);
    expect(flags.apiKey).toEqual(["secret"]);
    expect(flags.kvCacheMemoryBytes).toBe(2 ** 31);
    expect((await run(["/m", "--api-key", "flag"], env)).flags.apiKey).toEqual(["flag"]);
  });

  it("lets both commands share a file", async () => {
    const config = write("given.yaml", "port: 9\nmodel: /m\n");
    expect((await run(["--config", config], {}, "offline")).flags.port).toBe(8000);
  });

  it("names file and key of what is wrong", async () => {
    const bad = write("bad.yaml", "max-model-lenn: 1\n");
    expect(await failure(["--config", bad])).toBe(
      `${bad}: unknown key 'max-model-lenn'. Did you mean max-model-len?`,
    );
    const typed = write("typed.yaml", "port: many\n");
    expect(await failure(["--config", typed])).toBe(
      `argument --port (${typed}): invalid int value: 'many'`,
    );
    expect(await failure(["/m"], { UCM_PORT: "x" })).toBe(
      "argument --port (UCM_PORT): invalid int value: 'x'",
    );
    expect(await failure(["--config", write("a.json", "{}")])).toBe(
      "Config file must be of a yaml/yml type. json supplied",
    );
    expect(await failure(["--config", join(folder, "none.yaml")])).toContain(
      "Unable to read the config file at",
    );
    expect(await failure(["--config", write("broken.yaml", "a: [")])).toContain(
      "is not valid YAML",
    );
  });
});

describe("flags without effect", () => {
  it("warns of harmless ones that ask for something", async () => {
    const { warnings } = await run(["/m", "--swap-space", "16", "-pp", "2"]);
    expect(warnings).toEqual([
      "--swap-space has no effect: there is no swapping to host memory on a CPU.",
      "--pipeline-parallel-size has no effect: workers are the tensor-parallel ranks of one model on one machine.",
    ]);
  });

  it("is silent when they ask for what happens anyway", async () => {
    const argv = ["/m", "--swap-space", "4", "--trust-remote-code", "--enforce-eager", "-O1"];
    expect((await run(argv)).warnings).toEqual([]);
    expect((await run(["/m", "--runner", "generate"])).warnings).toEqual([]);
  });

  it("refuses those that would change results, with the reason", async () => {
    expect(await failure(["/m", "--enable-lora"])).toBe(
      "argument --enable-lora: not supported: LoRA adapters cannot be loaded.",
    );
    expect(await failure(["/m", "--middleware", "m"])).toContain("Python code");
  });

  it("warns of serve --model", async () => {
    const { warnings } = await run(["--model", "/m"]);
    expect(warnings[0]).toContain("you should provide the model as a positional argument");
    expect((await run(["--model", "/m"], {}, "offline")).warnings).toEqual([]);
  });
});

describe("the flag table", () => {
  it("has no short form and no environment twin twice", () => {
    const shorts = Object.values(flagTable).flatMap((spec) => spec.short);
    expect(new Set(shorts).size).toBe(shorts.length);
    const names = Object.keys(flagTable).map((name) => name.replaceAll("-", "_").toUpperCase());
    expect(new Set(names).size).toBe(names.length);
  });

  it("has defaults that its own rules accept", () => {
    for (const [name, spec] of Object.entries(flagTable)) {
      if (spec.default === null) expect(spec.optional, name).toBe(true);
      if (typeof spec.default === "number") {
        expect(spec.default, name).toBeGreaterThanOrEqual(spec.min);
      }
      if (spec.choices !== null && spec.default !== null) {
        expect(spec.choices, name).toContain(String(spec.default));
      }
    }
  });
});
