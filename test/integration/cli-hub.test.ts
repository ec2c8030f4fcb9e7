import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, it } from "vitest";
import { type HubFile, startHub } from "../helpers/hub-server.js";
import { makeTempFolder } from "../helpers/temp-folder.js";
import { demoModel, runUcm, startUcm, until } from "../helpers/ucm-command.js";

const files: Record<string, HubFile> = Object.fromEntries(
  readdirSync(demoModel, { withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map(({ name }) => [
      name,
      { content: readFileSync(join(demoModel, name)), isLfs: name.endsWith(".safetensors") },
    ]),
);
const prompt = ["--prompt", "Once", "--max-tokens", "4", "--temperature", "0"];

it("ucm offline downloads a model by name once, and finds it again offline", async () => {
  let broken = 0;
  const hub = await startHub(files, {
    trouble: ({ path, attempt, response, content }) => {
      if (path !== "model.safetensors" || attempt > 1) return false;
      broken += 1;
      response.setHeader("content-length", content.length);
      response.write(content.subarray(0, 1_000_000), () => response.destroy());
      return true;
    },
  });
  const env = { HF_ENDPOINT: hub.url, HF_HOME: makeTempFolder() };
  const local = await runUcm(["offline", demoModel, ...prompt]);
  const first = await runUcm(["offline", "Org/Name", ...prompt], env);
  expect(first.exitCode).toBe(0);
  expect(first.stdout).toBe(local.stdout);
  expect(broken).toBe(1);
  const cache = join(env.HF_HOME, "hub/models--Org--Name");
  expect(readdirSync(cache).sort()).toEqual(["blobs", "refs", "snapshots"]);
  const offline = { HF_ENDPOINT: "http://127.0.0.1:1", HF_HOME: env.HF_HOME, HF_HUB_OFFLINE: "1" };
  expect(await runUcm(["offline", "Org/Name", ...prompt], offline)).toMatchObject({
    exitCode: 0,
    stdout: local.stdout,
  });
  const other = await runUcm(["offline", "Org/Other", ...prompt], env);
  expect(other.exitCode).toBe(2);
  expect(other.stderr).toContain("ucm offline: error: The hub at http://127.0.0.1:");
  expect(other.stderr).toContain("has no model Org/Other with revision main");
});

it("ucm serve serves a downloaded model under its name", async () => {
  const hub = await startHub(files, { token: "hf_x" });
  const folder = makeTempFolder();
  const args = [
    "serve",
    "Org/Name",
    "--port",
    "0",
    "--host",
    "127.0.0.1",
    "--max-model-len",
    "256",
  ];
  const child = startUcm([...args, "--hf-token", "hf_x", "--download-dir", folder], {
    HF_ENDPOINT: hub.url,
  });
  let text = "";
  child.stdout?.on("data", (piece) => {
    text += piece;
  });
  try {
    await until("start-up", () => text.includes("Application startup complete."));
    const url = /Starting ucm server on (\S+)/.exec(text)![1]!;
    const models = await (await fetch(`${url}/v1/models`)).json();
    expect(models).toMatchObject({
      data: [{ id: "Org/Name", root: expect.stringContaining(join(folder, "models--Org--Name")) }],
    });
    expect(text).toMatch(/Downloading Org\/Name: \d+ files, \d+\.\d MiB, to /);
    expect(text).toContain("Starting to load model Org/Name...");
    expect(text).not.toContain("hf_x");
  } finally {
    child.kill("SIGKILL");
    await child;
  }
});
