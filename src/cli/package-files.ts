import { readFileSync } from "node:fs";
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
