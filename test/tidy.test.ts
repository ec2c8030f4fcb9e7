import { readdirSync, readFileSync, statSync } from "node:fs";
import { dirname, join, relative, resolve } from "node:path";
import { execaSync } from "execa";
import { describe, expect, it } from "vitest";

const root = resolve(import.meta.dirname, "..");

/** Which folders of src each may import; every folder may import itself and the leaves. */
const mayImport: Record<string, readonly string[]> = {
  cli: [
    ...[
      "hub",
      "launcher",
      "engine",
      "server",
      "config",
      "tokenizer",
      "openai",
      "model",
      "messages",
    ],
    "cache-tool",
  ],
  // In a process of its own, as it waits for devices; the store's native code knows its folders.
  "cache-tool": ["native"],
  config: ["model", "messages", "sparse"],
  hub: [],
  launcher: ["config", "messages", "engine", "kvcache", "sparse"],
  server: ["openai", "tokenizer", "engine", "messages", "config"],
  openai: ["messages"],
  engine: ["scheduler", "messages", "tokenizer", "config", "kvcache", "grammar", "sparse"],
  grammar: ["messages", "tokenizer"],
  scheduler: ["messages"],
  kvcache: ["messages"],
  sparse: ["messages"],
  worker: ["model", "onnx", "native", "messages", "sparse"],
  model: ["onnx", "native", "messages"],
  onnx: [],
  native: [],
  tokenizer: [],
  messages: [],
  metrics: [],
  errors: [],
  log: [],
  profile: [],
};
const leaves = ["errors", "log", "metrics", "profile"];

const LINES_MAX = 500;
const sources = listFiles(join(root, "src"), /\.ts$/);
const nativeSources = listFiles(join(root, "native"), /\.(cc|h|inc)$/);
const tests = listFiles(join(root, "test"), /\.ts$/);
const readmes = listFiles(root, /^(README|CHANGELOG)\.md$/);

function listFiles(folder: string, pattern: RegExp): string[] {
  return readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
    const path = join(folder, entry.name);
    if (["node_modules", "dist", "build", ".git"].includes(entry.name)) return [];
    if (entry.isDirectory()) return listFiles(path, pattern);
    return pattern.test(entry.name) ? [path] : [];
  });
}

const name = (path: string) => relative(root, path);
const folderOf = (path: string) => relative(join(root, "src"), path).split("/")[0]!;

/** Relative imports of a source file, as absolute .ts paths. */
function importsOf(path: string): string[] {
  const specifiers = readFileSync(path, "utf8").matchAll(
    /(?:from|import)\s*\(?\s*["'](\.[^"']+)["']/g,
  );
  return [...specifiers].map(([, specifier]) =>
    resolve(dirname(path), specifier!.replace(/\.js$/, ".ts")),
  );
}

describe("layering", () => {
  it("has a rule for every folder of src", () => {
    const folders = readdirSync(join(root, "src"), { withFileTypes: true });
    const names = folders.filter((entry) => entry.isDirectory()).map((entry) => entry.name);
    expect(names.filter((folder) => !(folder in mayImport))).toEqual([]);
  });

  it("imports only downwards", () => {
    const wrong = sources.flatMap((path) => {
      const from = folderOf(path);
      const allowed = [from, ...leaves, ...(mayImport[from] ?? [])];
      return importsOf(path)
        .filter((target) => !allowed.includes(folderOf(target)))
        .map((target) => `${name(path)} -> ${name(target)}`);
    });
    expect(wrong).toEqual([]);
  });

  it("has one importer of onnxruntime-node and one loader of the addon", () => {
    const importers = (pattern: RegExp) =>
      sources.filter((path) => pattern.test(readFileSync(path, "utf8"))).map(name);
    expect(importers(/from ["']onnxruntime-node["']/)).toEqual(["src/onnx/session.ts"]);
    expect(importers(/ucm\.node/).filter((path) => !path.startsWith("src/native/"))).toEqual([]);
  });

  it("keeps the native core free of Node", () => {
    const users = nativeSources.filter((path) => /<napi\.h>/.test(readFileSync(path, "utf8")));
    expect(users.map(name).filter((path) => !path.startsWith("native/bindings/"))).toEqual([]);
  });

  it("has no dead file", () => {
    const entries = [
      "cli/main.ts",
      "worker/main.ts",
      "grammar/thread.ts",
      "cache-tool/main.ts",
    ].map((path) => join(root, "src", path));
    const reached = new Set<string>();
    const visit = (path: string) => {
      if (reached.has(path)) return;
      reached.add(path);
      importsOf(path).forEach(visit);
    };
    entries.forEach(visit);
    expect(sources.filter((path) => !reached.has(path)).map(name)).toEqual([]);
  });
});

describe("style", () => {
  it(`keeps files under ${LINES_MAX} lines`, () => {
    const long = [...sources, ...nativeSources, ...tests].filter(
      (path) => readFileSync(path, "utf8").split("\n").length > LINES_MAX,
    );
    expect(long.map(name)).toEqual([]);
  });

  it("has no unfinished business", () => {
    const words = ["TO" + "DO", "FIX" + "ME", "XX" + "X"].map((word) => `\\b${word}\\b`);
    const banned = new RegExp([...words, "^<{7} ", "^>{7} "].join("|"), "m");
    const found = [...sources, ...nativeSources, ...tests, ...readmes].filter((path) =>
      banned.test(readFileSync(path, "utf8")),
    );
    expect(found.map(name)).toEqual([]);
  });

  it("has no blob outside the demo model", () => {
    const KIB_MAX = 1024;
    const tracked = execaSync("git", ["ls-files"], { cwd: root }).stdout.split("\n");
    const big = tracked.filter(
      (path) =>
        !path.startsWith("models/") &&
        (statSync(join(root, path), { throwIfNoEntry: false })?.size ?? 0) > KIB_MAX * 1024,
    );
    expect(big).toEqual([]);
  });

  it("passes the linter and the formatter", () => {
    const result = execaSync("npx", ["biome", "check", "."], { cwd: root, reject: false });
    expect(result.exitCode, `${result.stdout}${result.stderr}`).toBe(0);
  });

  it("passes the type checker, tests included", () => {
    const result = execaSync("npx", ["tsc", "-p", "tsconfig.json"], { cwd: root, reject: false });
    expect(result.exitCode, result.stdout).toBe(0);
  });
});
