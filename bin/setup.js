#!/usr/bin/env node
/**
 * Makes a checkout ready to run: npm packages, TypeScript build, native build; each only when its
 * inputs changed. Needs Node 20, python3, make and g++, and no package installed.
 */
import { spawnSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const at = (...parts) => join(root, ...parts);

/** Time of the last change of a file, 0 when there is none. */
function changedAt(path) {
  return statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? 0;
}

/** Time of the last change of anything in a folder: files, and the folders that list them. */
function newestIn(folder, skipped = []) {
  let newest = changedAt(folder);
  for (const entry of readdirSync(folder, { withFileTypes: true })) {
    if (skipped.includes(entry.name)) continue;
    const path = join(folder, entry.name);
    newest = Math.max(newest, entry.isDirectory() ? newestIn(path, skipped) : changedAt(path));
  }
  return newest;
}

/** Runs a command in the root, telling its purpose and time; its output is shown only when it fails. */
function run(purpose, command, args) {
  process.stdout.write(`setup: ${purpose} `);
  const started = Date.now();
  const result = spawnSync(command, args, { cwd: root, encoding: "utf8" });
  const seconds = ((Date.now() - started) / 1000).toFixed(1);
  process.stdout.write(result.status === 0 ? `(${seconds} s)\n` : "\n");
  if (result.status === 0) return;
  process.stderr.write(`${result.stdout ?? ""}${result.stderr ?? ""}`);
  const reason = result.error?.code === "ENOENT" ? `${command} is not installed` : "it failed";
  console.error(`setup: ${[command, ...args].join(" ")}: ${reason}`);
  process.exit(1);
}

function installPackages() {
  const stamp = at("node_modules", ".ucm-lock");
  const lock = readFileSync(at("package-lock.json"), "utf8");
  const isSame = existsSync(stamp) && readFileSync(stamp, "utf8") === lock;
  // Without our stamp, npm's own record tells: an install by hand counts as well.
  const record = changedAt(at("node_modules", ".package-lock.json"));
  if (isSame || (!existsSync(stamp) && record >= changedAt(at("package-lock.json")))) return;
  run("installing npm packages", "npm", ["ci", "--no-progress"]);
  writeFileSync(stamp, lock);
}

function buildTypeScript() {
  const inputs = ["package-lock.json", "tsconfig.json", "tsconfig.build.json"].map((name) =>
    changedAt(at(name)),
  );
  const stamp = at("dist", ".built");
  if (changedAt(stamp) > Math.max(newestIn(at("src")), ...inputs)) return;
  const started = Date.now();
  const tsc = at("node_modules", "typescript", "bin", "tsc");
  run("building TypeScript", process.execPath, [tsc, "-p", "tsconfig.build.json"]);
  // A change during the build is newer than the stamp.
  writeFileSync(stamp, `${new Date(started).toISOString()}\n`);
}

/** make knows what is up to date; it is asked first, so that nothing is said when nothing is done. */
function buildNative() {
  const question = spawnSync("make", ["-C", "native", "-q"], { cwd: root, stdio: "ignore" });
  if (question.status === 0) return;
  run("building native code", "make", ["-C", "native", "-j2"]);
}

const [major] = process.versions.node.split(".").map(Number);
if (major < 20) {
  console.error(`setup: Node 20 or newer is needed, this is ${process.version}`);
  process.exit(1);
}
installPackages();
buildTypeScript();
buildNative();
