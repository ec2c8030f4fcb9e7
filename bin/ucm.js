#!/usr/bin/env node
import { existsSync, readFileSync } from "node:fs";

/** What V8 and ONNX Runtime reserve, most of it for nothing; with less, processes die anywhere. */
const ADDRESS_SPACE_BYTES = 2e9;

/** Of `ulimit -v`; undefined without one, or where the system does not tell. */
function addressSpaceLimit() {
  const path = "/proc/self/limits";
  const limits = existsSync(path) ? readFileSync(path, "utf8") : "";
  return /^Max address space\s+(\d+)/m.exec(limits)?.[1];
}

const main = new URL("../dist/cli/main.js", import.meta.url);
if (!existsSync(main)) {
  console.error("ucm is not built yet. Run: npm run quickstart");
  process.exitCode = 1;
} else if (Number(addressSpaceLimit()) < ADDRESS_SPACE_BYTES) {
  console.error(
    `ucm: error: the address space is limited to ${addressSpaceLimit()} bytes (ulimit -v), and each process of ucm reserves ${ADDRESS_SPACE_BYTES}, most of which it never uses. Raise it; to limit memory, use a cgroup or ulimit -d.`,
  );
  process.exitCode = 2;
} else {
  await import(main.href);
}
