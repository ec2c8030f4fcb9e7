import { existsSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const packageRoot = new URL("../../", import.meta.url);

/** The version in package.json. */
export function readVersion(): string {
  const text = readFileSync(new URL("package.json", packageRoot), "utf8");
  return (JSON.parse(text) as { version: string }).version;
}

/** The bundled checkpoint that `ucm offline` runs when no model is given. */
export function demoModelPath(): string {
  return fileURLToPath(new URL("models/ucm-demo", packageRoot));
}

/** Where the native build leaves the addon and its programs. */
export function nativeBuildPath(name = ""): string {
  return fileURLToPath(new URL(`build/native/${name}`, packageRoot));
}

/** The installed version of a package that this one depends on; "unknown" when it is not found. */
export function readDependencyVersion(name: string): string {
  const folders = createRequire(import.meta.url).resolve.paths(name) ?? [];
  const path = folders
    .map((folder) => join(folder, name, "package.json"))
    .find((candidate) => existsSync(candidate));
  if (path === undefined) return "unknown";
  return (JSON.parse(readFileSync(path, "utf8")) as { version: string }).version;
}
