import { existsSync } from "node:fs";
import { join } from "node:path";
import { execa } from "execa";
import { describe, expect, it } from "vitest";
import { root } from "../helpers/ucm-command.js";

const setup = () => execa(process.execPath, [join(root, "bin/setup.js")]);

describe("bin/setup.js", () => {
  it("leaves everything built, and does nothing when run again", async () => {
    await setup();
    expect(existsSync(join(root, "dist/cli/main.js"))).toBe(true);
    expect(existsSync(join(root, "build/native/ucm.node"))).toBe(true);
    const { stdout, stderr } = await setup();
    expect(stdout).toBe("");
    expect(stderr).toBe("");
  });

  it("works in any folder", async () => {
    const { exitCode } = await execa(process.execPath, [join(root, "bin/setup.js")], { cwd: "/" });
    expect(exitCode).toBe(0);
  });
});
