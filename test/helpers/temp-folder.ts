import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll } from "vitest";

const made: string[] = [];

// Registered while the test file is collected, before its own hooks, so it runs after all of them.
afterAll(() => {
  for (const folder of made.splice(0)) rmSync(folder, { recursive: true, force: true });
});

/** A fresh folder under the system's temporary one, removed when the test file is through. */
export function makeTempFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), "ucm-test-"));
  made.push(folder);
  return folder;
}
